package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"syscall"

	"github.com/signpost-dev/signpost/hack/cluster/place"
	"github.com/signpost-dev/signpost/hack/cluster/step"
)

// command is what the user can say.
type command struct {
	name, args, help string
	run              func(context.Context, *cluster, []string) error
}

func commands() []command {
	return []command{
		{"up", "[--proxy=signpost|kube-proxy|none] [--dns=signpost|coredns|none]", "start the cluster, or what is missing of it", up},
		{"load", "", "import the images anew on all nodes and restart the DaemonSet of Signpost", load},
		{"status", "", "say what runs, and how to talk to it", status},
		{"free", "", "fail, and say whose it is, if there is a cluster already", free},
		{"down", "[--force]", "remove the cluster and all that it made", down},
		{"kubectl", "ARGS…", "run kubectl for this cluster", kubectl},
		{"env", "", "print what a shell needs for it: eval \"$(go run ./hack/cluster env)\"", printEnv},
		{"exec-node", "N COMMAND…", "run a command on node N: in its network and mount namespace", execNode},
		{"outside", "COMMAND…", "run a command on a host outside of the cluster", outside},
		{"pod-netns", "IP", "print the file of the network namespace of the pod that has this address", podNetns},
		{"stop-apiserver", "", "stop the API server", stopAPIServer},
		{"start-apiserver", "", "start it again and wait until it is ready", startAPIServer},
		{"freeze", "N [kubelet]", "stop the kubelet of node N and cut its link, or only stop the kubelet", freeze},
		{"thaw", "N", "let a frozen node go on", thaw},
		{"programs", "NAME…", "build programs of Kubernetes, or coredns, and print where they are", buildPrograms},
		{"packages", "NAME…", "install the Debian packages that are missing", installPackages},
	}
}

// cluster is what the commands work on.
type cluster struct {
	checkout string // root of the checkout that this program was started in
	cache    string
	paths    paths
	out      *step.Printer
}

func main() {
	if len(os.Args) == 3 && os.Args[1] == initCommand {
		// A node that begins: this comes back only if it fails. See nodeinit.go.
		fmt.Fprintln(os.Stderr, nodeInit(os.Args[2]))
		os.Exit(1)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	os.Exit(exitCode(run(ctx, os.Args[1:])))
}

func run(ctx context.Context, args []string) error {
	all := commands()
	if len(args) == 0 || slices.Contains([]string{"help", "-h", "--help"}, args[0]) {
		usage(all)
		return nil
	}
	i := slices.IndexFunc(all, func(c command) bool { return c.name == args[0] })
	if i < 0 {
		return usageError(fmt.Sprintf("there is no command %q; to see all: go run ./hack/cluster help", args[0]))
	}
	c, err := open()
	if err != nil {
		return err
	}
	err = all[i].run(ctx, c, args[1:])
	if err != nil && ctx.Err() != nil {
		return errors.New("interrupted: go on with the same command, or clean up with: go run ./hack/cluster down")
	}
	return err
}

func open() (*cluster, error) {
	checkout, err := place.Checkout()
	if err != nil {
		return nil, err
	}
	cache, err := place.Cache()
	if err != nil {
		return nil, err
	}
	dir, err := place.Cluster()
	if err != nil {
		return nil, err
	}
	// Progress goes to stderr, so that what a command prints can be used.
	return &cluster{checkout: checkout, cache: cache, paths: paths{dir}, out: &step.Printer{Out: os.Stderr}}, nil
}

func usage(all []command) {
	fmt.Fprintln(os.Stderr, "A real two-node Kubernetes on this machine. Usage: go run ./hack/cluster COMMAND")
	for _, c := range all {
		fmt.Fprintf(os.Stderr, "\n  %s %s\n      %s\n", c.name, c.args, c.help)
	}
}

// usageError is a command line that makes no sense.
type usageError string

func (e usageError) Error() string { return string(e) }

// exitCode prints the error and returns its code: 2 for a wrong command line,
// else 1.
func exitCode(err error) int {
	if err == nil || errors.Is(err, flag.ErrHelp) {
		return 0
	}
	fmt.Fprintln(os.Stderr, "cluster:", err)
	if errors.As(err, new(usageError)) {
		return 2
	}
	return 1
}

// noArguments is for commands that take none.
func noArguments(args []string) error {
	if len(args) > 0 {
		return usageError(fmt.Sprintf("unexpected argument %q", args[0]))
	}
	return nil
}
