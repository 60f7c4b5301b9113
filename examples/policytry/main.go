// Command policytry runs a policy module on requests, without a cluster, and prints what it decides and what it costs.
//
//	go run ./examples/policytry -module FILE.wasm [-abi NAME] [-settings FILE] [-kind admission|scheduling] [-n 1000]
//	  [-grant CAPABILITY]… [-objects FILE] [-can-i allow|deny] [INPUT.json…]
//
// An INPUT holds requests in any of the forms of policies/policytest: an object of Kubernetes, an AdmissionReview, an
// AdmissionRequest, or {"pod": …, "nodes": […]}; "-" reads standard input. Without one a built-in sample is used. Without
// -kind the module is tried as both. It exits with 1 if the module can't be loaded or a call failed; what a policy
// refuses is no failure.
//
// Without -grant a policy may ask for the time and for nothing else. -grant takes what a policy object has in its
// capabilities, one each, and replaces that: clock; read:GROUP/RESOURCE (read:/pods for the core group), which finds what
// is in -objects, a file of manifests; kubewarden:can_i, which gives the answer of -can-i to every question.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/pintle/pintle/policies/abi"
	"github.com/pintle/pintle/policies/policytest"
)

// options are the command line's.
type options struct {
	module, abi, settings string
	kind                  abi.Kind // empty: whichever the module is
	calls                 int
	grants                []string
	objects               string // a file
	canI                  string // allow or deny
	inputs                []string
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr)
	stop()
	switch {
	case errors.Is(err, flag.ErrHelp):
	case errors.Is(err, errUsage):
		os.Exit(2)
	case err != nil:
		fmt.Fprintln(os.Stderr, "policytry:", err)
		os.Exit(1)
	}
}

// errUsage is a command line that the flag package has complained of.
var errUsage = errors.New("usage")

func run(ctx context.Context, args []string, in io.Reader, out, complaints io.Writer) error {
	o, err := parseFlags(args, complaints)
	if err != nil {
		return err
	}
	wasm, err := os.ReadFile(o.module)
	if err != nil {
		return err
	}
	spec := abi.Policy{Name: "policytry", Kind: o.kind, Capabilities: o.grants}
	if o.settings != "" {
		if spec.Settings, err = os.ReadFile(o.settings); err != nil {
			return err
		}
		if spec.Settings, err = settingsJSON(spec.Settings); err != nil {
			return fmt.Errorf("settings %s: %w", o.settings, err)
		}
	}
	requests, err := readInputs(o.inputs, in)
	if err != nil {
		return err
	}
	log := slog.New(slog.NewTextHandler(complaints, &slog.HandlerOptions{Level: slog.LevelWarn}))
	var cluster objects
	if o.objects != "" {
		if cluster, err = readObjects(o.objects); err != nil {
			return err
		}
	}
	return try(ctx, out, log, o, wasm, spec, cluster, requests)
}

func parseFlags(args []string, complaints io.Writer) (options, error) {
	var o options
	var kind string
	flags := flag.NewFlagSet("policytry", flag.ContinueOnError)
	flags.SetOutput(complaints)
	flags.StringVar(&o.module, "module", "", "the module, a .wasm file (required)")
	flags.StringVar(&o.abi, "abi", "", "the ABI to run it with; found out by default")
	flags.StringVar(&o.settings, "settings", "", "a file with the policy's settings, JSON or YAML")
	flags.StringVar(&kind, "kind", "", "admission or scheduling; found out by default")
	flags.IntVar(&o.calls, "n", 1000, "how many calls are timed")
	flags.Func("grant", "a capability of the policy, such as read:/pods; may be repeated (default clock)", func(c string) error {
		o.grants = append(o.grants, c)
		return nil
	})
	flags.StringVar(&o.objects, "objects", "", "a file of manifests, JSON or YAML, that the policy may read where it is granted")
	flags.StringVar(&o.canI, "can-i", "deny", "what a policy with the capability kubewarden:can_i is answered: allow or deny")
	if err := flags.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return o, err
		}
		return o, errUsage
	}
	o.inputs = flags.Args()
	if len(o.grants) == 0 {
		o.grants = []string{"clock"}
	}
	if name, ok := otherNames[o.abi]; ok {
		o.abi = name
	}
	switch strings.ToLower(kind) {
	case "":
	case "admission":
		o.kind = abi.Admission
	case "scheduling":
		o.kind = abi.Scheduling
	default:
		return o, fmt.Errorf("-kind=%s: it is admission or scheduling", kind)
	}
	switch {
	case o.module == "":
		return o, errors.New("-module is missing: which .wasm file is to be tried?")
	case o.canI != "allow" && o.canI != "deny":
		return o, fmt.Errorf("-can-i=%s: it is allow or deny", o.canI)
	case o.calls < 1:
		return o, fmt.Errorf("-n=%d: at least one call is needed", o.calls)
	}
	return o, nil
}

// readInputs reads every request of every file. Without files there are none, and samples stand in.
func readInputs(names []string, in io.Reader) ([]policytest.Request, error) {
	parser := policytest.Parser{Protobuf: protobuf}
	var requests []policytest.Request
	for _, name := range names {
		r := in
		if name != "-" {
			f, err := os.Open(name)
			if err != nil {
				return nil, err
			}
			defer f.Close()
			r = f
		}
		read, err := parser.Read(r)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		if len(read) == 0 {
			return nil, fmt.Errorf("%s: there is no request in it", name)
		}
		requests = append(requests, read...)
	}
	return requests, nil
}
