package main

import (
	"fmt"
	"log/slog"
	"os"

	"github.com/go-logr/logr"
	"github.com/spf13/cobra"
	"k8s.io/klog/v2"
	ctrllog "sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/signpost-dev/signpost/pkg/config/v1alpha1"
	"github.com/signpost-dev/signpost/pkg/daemon"
)

func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:           "signpost",
		Short:         "Kubernetes service discovery in one daemon per node",
		Long:          "Signpost decides which pods stand behind a Service, sends packets there, and answers\nthe names below svc.cluster.local: one daemon per node, one watch, one model.",
		SilenceUsage:  true,
		SilenceErrors: true,
		Args:          noArgs,
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.CompletionOptions.HiddenDefaultCmd = true
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError{err} })
	root.AddCommand(newRun(), newRules(), newCleanup(), newConfig(), newVersion())
	return root
}

// settings are the flags that every command shares which needs a configuration.
type settings struct {
	configFile, kubeconfig, nodeName, logFormat, logLevel string
}

func (s *settings) addTo(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringVar(&s.configFile, "config", "", "path of the configuration file; without it the defaults hold (see signpost config defaults)")
	flags.StringVar(&s.kubeconfig, "kubeconfig", "", "path of a kubeconfig; without it the account that the pod runs as")
	flags.StringVar(&s.nodeName, "node-name", "", "name of this machine's Node; default $NODE_NAME, else the host name")
	flags.StringVar(&s.logFormat, "log-format", "text", "text or json")
	flags.StringVar(&s.logLevel, "log-level", "info", "debug, info, warn or error")
}

// load returns the configuration and a log, both ready for use.
func (s *settings) load() (*v1alpha1.SignpostConfiguration, *slog.Logger, error) {
	log, err := s.newLog()
	if err != nil {
		return nil, nil, usageError{err}
	}
	cfg, err := s.readConfig()
	if err != nil {
		return nil, nil, usageError{err}
	}
	return cfg, log, nil
}

func (s *settings) readConfig() (*v1alpha1.SignpostConfiguration, error) {
	cfg := v1alpha1.Default()
	if s.configFile != "" {
		var err error
		if cfg, err = parseFile(s.configFile); err != nil {
			return nil, err
		}
	}
	if s.kubeconfig != "" {
		cfg.ClientConnection.Kubeconfig = s.kubeconfig
	}
	if s.nodeName != "" {
		cfg.NodeName = s.nodeName
	}
	if err := daemon.FromEnvironment(cfg); err != nil {
		return nil, err
	}
	return cfg, nil
}

func parseFile(path string) (*v1alpha1.SignpostConfiguration, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("--config: %w", err)
	}
	cfg, err := v1alpha1.Parse(data)
	if err != nil {
		return nil, fmt.Errorf("%s:\n%w", path, err)
	}
	return cfg, nil
}

// newLog also directs the logs of client-go and controller-runtime to ours.
func (s *settings) newLog() (*slog.Logger, error) {
	var level slog.Level
	if err := level.UnmarshalText([]byte(s.logLevel)); err != nil {
		return nil, fmt.Errorf("--log-level: %q is not one of debug, info, warn and error", s.logLevel)
	}
	options := &slog.HandlerOptions{Level: level}
	var handler slog.Handler
	switch s.logFormat {
	case "text":
		handler = slog.NewTextHandler(os.Stderr, options)
	case "json":
		handler = slog.NewJSONHandler(os.Stderr, options)
	default:
		return nil, fmt.Errorf("--log-format: %q is not one of text and json", s.logFormat)
	}
	klog.SetSlogLogger(slog.New(handler))
	ctrllog.SetLogger(logr.FromSlogHandler(handler))
	return slog.New(handler), nil
}
