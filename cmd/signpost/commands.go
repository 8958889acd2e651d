package main

import (
	"fmt"
	"runtime/debug"

	"github.com/spf13/cobra"

	"github.com/signpost-dev/signpost/pkg/config/v1alpha1"
	"github.com/signpost-dev/signpost/pkg/daemon"
)

func newRun() *cobra.Command {
	var s settings
	cmd := &cobra.Command{
		Use:   "run",
		Short: "Run the daemon until a signal ends it",
		Args:  noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, log, err := s.load()
			if err != nil {
				return err
			}
			log.Info("starting", "version", buildVersion(), "node", cfg.NodeName)
			if err := daemon.Run(cmd.Context(), cfg, log); err != nil {
				return err
			}
			log.Info("stopped")
			return nil
		},
	}
	s.addTo(cmd)
	return cmd
}

func newRules() *cobra.Command {
	var s settings
	cmd := &cobra.Command{
		Use:   "rules",
		Short: "Print the rules that this node would get, and touch nothing",
		Long:  "Reads the Services and EndpointSlices of the cluster once and prints, for each address\nfamily, the text that the daemon would give to iptables-restore on a node without rules.",
		Args:  noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, log, err := s.load()
			if err != nil {
				return err
			}
			return daemon.Rules(cmd.Context(), cfg, log, cmd.OutOrStdout())
		},
	}
	s.addTo(cmd)
	return cmd
}

func newCleanup() *cobra.Command {
	var s settings
	cmd := &cobra.Command{
		Use:   "cleanup",
		Short: "Remove every rule and address that Signpost made on this node",
		Args:  noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, log, err := s.load()
			if err != nil {
				return err
			}
			return daemon.Cleanup(cmd.Context(), log)
		},
	}
	s.addTo(cmd)
	return cmd
}

func newConfig() *cobra.Command {
	cmd := &cobra.Command{
		Use: "config", Short: "Show and check configuration files", Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(&cobra.Command{
		Use:   "defaults",
		Short: "Print the full default configuration",
		Args:  noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			text, err := v1alpha1.Default().Marshal()
			if err == nil {
				_, err = cmd.OutOrStdout().Write(text)
			}
			return err
		},
	}, &cobra.Command{
		Use:   "check FILE",
		Short: "List every fault in a configuration file",
		Args: func(cmd *cobra.Command, args []string) error {
			if err := cobra.ExactArgs(1)(cmd, args); err != nil {
				return usageError{err}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if _, err := parseFile(args[0]); err != nil {
				return usageError{err}
			}
			_, err := fmt.Fprintf(cmd.OutOrStdout(), "%s: no faults\n", args[0])
			return err
		},
	})
	return cmd
}

func newVersion() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print version, commit and Go version",
		Args:  noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, err := fmt.Fprintln(cmd.OutOrStdout(), buildVersion())
			return err
		},
	}
}

func noArgs(cmd *cobra.Command, args []string) error {
	if err := cobra.NoArgs(cmd, args); err != nil {
		return usageError{err}
	}
	return nil
}

// buildVersion is what the Go tool wrote into the binary.
func buildVersion() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	commit, modified := "unknown commit", ""
	for _, s := range info.Settings {
		switch {
		case s.Key == "vcs.revision":
			commit = s.Value
		case s.Key == "vcs.modified" && s.Value == "true":
			modified = ", modified"
		}
	}
	return fmt.Sprintf("signpost %s (%s%s, %s)", info.Main.Version, commit, modified, info.GoVersion)
}
