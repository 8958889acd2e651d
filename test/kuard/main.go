package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"
)

// version is what GET / says: builds of another version set it with
// -ldflags "-X main.version=2".
var version = "dev"

func main() {
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	address := flag.String("address", ":8080", "where to listen")
	lameDuck := flag.Duration("lame-duck", 5*time.Second, "how long to go on accepting connections after SIGTERM")
	drain := flag.Duration("drain", 10*time.Second, "how long requests may take to end after that")
	flag.Parse()
	if flag.NArg() > 0 {
		flag.Usage()
		os.Exit(2)
	}
	pod, err := os.Hostname()
	if err != nil {
		log.Error("no host name", "error", err)
		os.Exit(1)
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	listener, err := net.Listen("tcp", *address)
	if err != nil {
		log.Error("cannot listen", "error", err)
		os.Exit(1)
	}
	log.Info("listening", "address", listener.Addr().String(), "version", version)
	s := newServer(identity{Pod: pod, Node: os.Getenv("NODE_NAME"), Version: version})
	if err := serve(ctx, listener, s, *lameDuck, *drain); err != nil {
		log.Error("ended", "error", err)
		os.Exit(1)
	}
	log.Info("ended")
}

// serve answers until ctx ends, goes on while it is a lame duck, and then lets
// open requests end.
func serve(ctx context.Context, l net.Listener, s *server, lameDuck, drain time.Duration) error {
	web := &http.Server{Handler: s, ReadHeaderTimeout: 10 * time.Second}
	ended := make(chan error, 1)
	go func() { ended <- web.Serve(l) }()
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
	}
	s.end()
	select {
	case err := <-ended:
		return err
	case <-time.After(lameDuck):
	}
	limit, cancel := context.WithTimeout(context.WithoutCancel(ctx), drain)
	defer cancel()
	if err := web.Shutdown(limit); err != nil {
		return fmt.Errorf("requests were cut off: %w", err)
	}
	if err := <-ended; !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}
