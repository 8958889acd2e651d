package daemon

import (
	"context"
	"fmt"
	"net/http"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/controller-runtime/pkg/client"

	signpostv1alpha1 "github.com/signpost-dev/signpost/pkg/api/v1alpha1"
	"github.com/signpost-dev/signpost/pkg/config/v1alpha1"
	"github.com/signpost-dev/signpost/pkg/watchcache"
)

// connection is everything that talks to the API server. All of it shares one
// transport: one TCP connection, and one patience with a server that is away.
type connection struct {
	config     *rest.Config
	httpClient *http.Client
	clientset  kubernetes.Interface
	// writer writes what the controllers decide. It has no cache. Like all of the
	// connection it is not limited here, unless the configuration says so.
	writer client.Client
	// heard knows when the server was last heard of.
	heard *heard
}

func connect(ctx context.Context, cfg *v1alpha1.ClientConnection) (*connection, error) {
	restConfig, err := restConfig(ctx, cfg)
	if err != nil {
		return nil, err
	}
	heard := &heard{}
	restConfig.Wrap(heard.wrap)
	httpClient, err := rest.HTTPClientFor(restConfig)
	if err != nil {
		return nil, fmt.Errorf("clientConnection: %w", err)
	}
	clientset, err := kubernetes.NewForConfigAndClient(restConfig, httpClient)
	if err != nil {
		return nil, fmt.Errorf("clientConnection: %w", err)
	}
	writer, err := client.New(restConfig, client.Options{HTTPClient: httpClient, Scheme: scheme.Scheme, Mapper: watchcache.Mapper()})
	if err != nil {
		return nil, fmt.Errorf("clientConnection: %w", err)
	}
	return &connection{config: restConfig, httpClient: httpClient, clientset: clientset, writer: writer, heard: heard}, nil
}

// pools returns a client for LoadBalancerPools. Objects of kinds that are defined
// in the cluster are JSON: the server speaks no protobuf of them.
func (c *connection) pools() (client.WithWatch, error) {
	config := rest.CopyConfig(c.config)
	config.ContentType, config.AcceptContentTypes = runtime.ContentTypeJSON, runtime.ContentTypeJSON
	kinds := runtime.NewScheme()
	if err := signpostv1alpha1.AddToScheme(kinds); err != nil {
		return nil, err
	}
	mapper := meta.NewDefaultRESTMapper(nil)
	mapper.Add(signpostv1alpha1.GroupVersion().WithKind(signpostv1alpha1.LoadBalancerPoolKind), meta.RESTScopeRoot)
	out, err := client.NewWithWatch(config, client.Options{HTTPClient: c.httpClient, Scheme: kinds, Mapper: mapper})
	if err != nil {
		return nil, fmt.Errorf("clientConnection: %w", err)
	}
	return out, nil
}

func restConfig(ctx context.Context, cfg *v1alpha1.ClientConnection) (*rest.Config, error) {
	restConfig, err := account(cfg)
	if err != nil {
		return nil, err
	}
	if cfg.Server != "" {
		restConfig.Host = cfg.Server
	}
	restConfig.QPS, restConfig.Burst = cfg.QPS, cfg.Burst
	if restConfig.QPS <= 0 {
		restConfig.QPS = -1 // client-go takes 0 for 5 per second
	}
	restConfig.UserAgent = "signpost"
	// The server warns that Endpoints are deprecated each time that one is
	// written. We know (KEP-4974).
	restConfig.WarningHandler = rest.NoWarnings{}
	restConfig.ContentType = runtime.ContentTypeProtobuf
	restConfig.AcceptContentTypes = runtime.ContentTypeProtobuf + "," + runtime.ContentTypeJSON
	base, _, err := rest.DefaultServerUrlFor(restConfig)
	if err != nil {
		return nil, fmt.Errorf("clientConnection.server: %w", err)
	}
	restConfig.Wrap(func(next http.RoundTripper) http.RoundTripper {
		return newPatience(ctx, base.Scheme+"://"+base.Host, next)
	})
	return restConfig, nil
}

func account(cfg *v1alpha1.ClientConnection) (*rest.Config, error) {
	if cfg.Kubeconfig != "" {
		out, err := clientcmd.BuildConfigFromFlags("", cfg.Kubeconfig)
		if err != nil {
			return nil, fmt.Errorf("clientConnection.kubeconfig: %w", err)
		}
		return out, nil
	}
	out, err := rest.InClusterConfig()
	if err != nil {
		return nil, fmt.Errorf("clientConnection.kubeconfig is not given, and this is no pod: %w", err)
	}
	return out, nil
}
