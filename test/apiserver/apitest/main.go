package apitest

import (
	"context"
	"fmt"
	"os"
	"testing"

	"github.com/go-logr/logr"
	"k8s.io/klog/v2"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/signpost-dev/signpost/test/apiserver"
)

// Main is for TestMain: it starts the server that the tests share, puts it where
// they find it, runs them, stops it, and returns what to exit with.
func Main(m *testing.M, server **apiserver.Server) int {
	klog.SetLogger(logr.Discard()) // an outage makes client-go talk
	log.SetLogger(logr.Discard())
	s, err := apiserver.Start(context.Background(), apiserver.Options{})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer func() {
		if err := s.Stop(); err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
	}()
	*server = s
	return m.Run()
}
