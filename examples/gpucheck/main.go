// Command gpucheck checks that Pintle sees a machine's GPUs as they are: it prints the inventory, compares it
// with nvidia-smi, runs a small load on each GPU through CUDA's driver API and looks at what the driver says
// of it meanwhile, and watches health for a while. It changes no setting of any GPU.
//
// It says what was checked and what could not be. Exit status:
//
//	0  everything that could be checked is right
//	1  something differs from nvidia-smi, or a load failed or wasn't seen
//	2  the arguments are wrong, or it was interrupted
//	3  there is no driver, or no GPU: nothing was checked
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"syscall"
	"time"

	"github.com/pintle/pintle/gpu"
)

// Exit statuses.
const (
	statusRight = iota
	statusWrong
	statusUsage
	statusNoDriver
)

type options struct {
	watch   time.Duration
	load    time.Duration
	bytes   int
	smi     string // "" finds it
	library string
	json    string
	verbose bool
	fault   bool
	driver  gpu.Driver // for tests; nil asks NVML
}

func main() {
	var o options
	flags := flag.NewFlagSet("gpucheck", flag.ContinueOnError)
	flags.DurationVar(&o.watch, "watch", 10*time.Second, "how long to watch health at the end")
	flags.DurationVar(&o.load, "load", 5*time.Second, "how long each GPU gets a load; 0: none")
	mebibytes := flags.Int("mib", 256, "how much memory the load takes, in MiB")
	flags.StringVar(&o.smi, "nvidia-smi", "", "path of nvidia-smi; empty looks for it")
	flags.StringVar(&o.library, "nvml", "", "path of libnvidia-ml.so.1; empty looks for it")
	flags.StringVar(&o.json, "json", "", "write the whole report to this file")
	flags.BoolVar(&o.fault, "fault", false, "let a program of its own make an application's mistake on each GPU, to see that its XID arrives and the GPU stays healthy")
	faultNow := flags.String("fault-now", "", "make that mistake on the GPU with this UUID, and end: what -fault starts")
	flags.BoolVar(&o.verbose, "v", false, "log what the manager does to standard error")
	if err := flags.Parse(os.Args[1:]); err != nil {
		os.Exit(statusUsage)
	}
	if *faultNow != "" {
		if err := makeFault(*faultNow); err != nil {
			fmt.Println(err)
			os.Exit(statusWrong)
		}
		os.Exit(statusRight)
	}
	o.bytes = *mebibytes << 20
	if flags.NArg() > 0 || o.bytes <= 0 || o.watch < 0 || o.load < 0 {
		fmt.Fprintln(os.Stderr, "gpucheck: takes flags only, and none of them may be negative; see -help")
		os.Exit(statusUsage)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	os.Exit(run(ctx, o, os.Stdout))
}

// run does it all and returns the exit status.
func run(ctx context.Context, o options, out io.Writer) int {
	cfg := gpu.Config{Driver: o.driver, Poll: time.Second, Retry: time.Second}
	if cfg.Driver == nil {
		cfg.Driver = gpu.NVML{Library: o.library}
	}
	if o.verbose {
		cfg.Logger = slog.New(slog.NewTextHandler(os.Stderr, nil))
	}
	m, err := gpu.New(cfg)
	if err != nil {
		fmt.Fprintln(out, "gpucheck:", err)
		return statusUsage
	}
	running, stop := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- m.Run(running) }()
	defer func() {
		stop()
		<-ended
	}()
	select {
	case <-m.Ready():
	case <-ctx.Done():
		return statusUsage
	}
	inv := m.Inventory()
	if inv.Unavailable != "" {
		fmt.Fprintln(out, inv.Unavailable)
		fmt.Fprintln(out, "Nothing was checked.")
		return statusNoDriver
	}
	if len(inv.Devices) == 0 {
		fmt.Fprintf(out, "The driver %s answers, and knows no GPU.\nNothing was checked.\n", inv.System.DriverVersion)
		return statusNoDriver
	}
	r := report{Inventory: inv, Labels: inv.Labels(), Resources: inv.Resources(), DRA: inv.DRADevices()}
	printInventory(out, inv)
	r.againstSMI(ctx, o, out)
	if o.load > 0 {
		for i := range inv.Devices {
			r.load(ctx, m, o, i, out)
		}
	} else {
		r.skip("a load", "-load is 0")
	}
	r.cdi(inv)
	if o.fault {
		for i := range inv.Devices {
			r.fault(ctx, m, i, out)
		}
	} else {
		r.skip("the arrival of events", "it needs -fault")
	}
	r.watch(ctx, m, o.watch, out)
	status := r.conclude(out)
	if ctx.Err() != nil {
		fmt.Fprintln(out, "Interrupted.")
		status = statusUsage
	}
	if o.json != "" {
		if err := r.write(o.json); err != nil {
			fmt.Fprintln(out, "gpucheck:", err)
			return statusUsage
		}
	}
	return status
}

// report is everything that was found.
type report struct {
	Inventory *gpu.Inventory
	Labels    map[string]string
	Resources map[string]gpu.Quantity
	DRA       []gpu.DRADevice
	Findings  []finding
	Loads     []loadReport
	CDI       *gpu.CDISpec
	Changes   []string
	Checked   []string
	Skipped   []string
	Wrong     []string
}

func (r *report) skip(what, why string) { r.Skipped = append(r.Skipped, what+": "+why) }

func (r *report) check(what string, right bool, detail string) {
	if right {
		r.Checked = append(r.Checked, what)
	} else {
		r.Wrong = append(r.Wrong, what+": "+detail)
	}
}

func (r *report) againstSMI(ctx context.Context, o options, out io.Writer) {
	path := o.smi
	if path == "" {
		found, err := exec.LookPath("nvidia-smi")
		if errors.Is(err, exec.ErrNotFound) {
			for _, p := range []string{"/usr/local/nvidia/bin/nvidia-smi", "/run/nvidia/driver/usr/bin/nvidia-smi", "/home/kubernetes/bin/nvidia/bin/nvidia-smi"} {
				if _, err := os.Stat(p); err == nil {
					found = p
				}
			}
		}
		path = found
	}
	if path == "" {
		r.skip("agreement with nvidia-smi", "it is not on this machine; give its path with -nvidia-smi")
		return
	}
	log, err := askSMI(ctx, path)
	if err != nil {
		r.check("nvidia-smi answers", false, err.Error())
		return
	}
	r.Findings = compare(r.Inventory, log)
	if profiles, err := askMIG(ctx, path); err != nil {
		r.skip("agreement with nvidia-smi on MIG profiles", err.Error())
	} else if len(profiles) == 0 {
		r.skip("agreement with nvidia-smi on MIG profiles", "it lists none")
	} else {
		r.Findings = append(r.Findings, compareMIG(r.Inventory, profiles)...)
	}
	same := 0
	fmt.Fprintln(out, "\nBeside nvidia-smi:")
	for _, f := range r.Findings {
		switch {
		case !f.Equal:
			fmt.Fprintf(out, "  DIFFERS  %s: %q here, %q there\n", f.What, f.Ours, f.SMI)
			r.check("agreement with nvidia-smi on "+f.What, false, fmt.Sprintf("%q here, %q there", f.Ours, f.SMI))
		case f.NotChecked != "":
			r.skip("agreement with nvidia-smi on "+f.What, f.NotChecked)
		default:
			same++
		}
	}
	fmt.Fprintf(out, "  %d values agree\n", same)
	r.check(fmt.Sprintf("agreement with nvidia-smi on %d values", same), same > 0, "nothing could be compared")
}

// cdi makes the specification that containers would be given, and writes it nowhere.
func (r *report) cdi(inv *gpu.Inventory) {
	spec, err := inv.CDI("/")
	if err != nil {
		r.skip("injection into containers", err.Error())
		return
	}
	r.CDI = spec
	r.check(fmt.Sprintf("a CDI specification of %d devices with %d mounts can be made", len(spec.Devices), len(spec.Edits.Mounts)), len(spec.Devices) > 0, "it has no devices")
}

func (r *report) watch(ctx context.Context, m *gpu.Manager, long time.Duration, out io.Writer) {
	if long <= 0 {
		r.skip("health over time", "-watch is 0")
		return
	}
	fmt.Fprintf(out, "\nWatching health for %v.\n", long)
	ctx, cancel := context.WithTimeout(ctx, long)
	defer cancel()
	inv := m.Inventory()
	for i := range inv.Devices {
		if u := inv.Devices[i].Unmonitored; u != "" {
			r.skip(fmt.Sprintf("events of GPU %d", i), u)
		}
	}
	r.noteHealth(inv, out)
	for {
		next, err := m.WaitChange(ctx, inv.Revision)
		if err != nil {
			break
		}
		inv = next
		r.noteHealth(inv, out)
	}
	inv = m.Inventory()
	r.check("the driver answers to the end", inv.Unavailable == "", inv.Unavailable)
	for i := range inv.Devices {
		d := &inv.Devices[i]
		r.check(fmt.Sprintf("GPU %d is healthy", i), d.Healthy(), d.Why())
	}
}

func (r *report) noteHealth(inv *gpu.Inventory, out io.Writer) {
	for i := range inv.Devices {
		word := "healthy"
		if why := inv.Devices[i].Why(); why != "" {
			word = why
		}
		line := fmt.Sprintf("GPU %d: %s", i, word)
		r.Changes = append(r.Changes, line)
		fmt.Fprintln(out, "  "+line)
	}
}

func (r *report) conclude(out io.Writer) int {
	print := func(head string, lines []string) {
		if len(lines) == 0 {
			return
		}
		fmt.Fprintln(out, head)
		for _, l := range lines {
			fmt.Fprintln(out, "  "+l)
		}
	}
	fmt.Fprintln(out)
	print("Checked, and right:", r.Checked)
	print("Could not be checked:", r.Skipped)
	print("WRONG:", r.Wrong)
	if len(r.Wrong) > 0 {
		return statusWrong
	}
	return statusRight
}

func (r *report) write(path string) error {
	b, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return fmt.Errorf("encode the report: %w", err)
	}
	if err := os.WriteFile(path, append(b, '\n'), 0o644); err != nil {
		return fmt.Errorf("write the report: %w", err)
	}
	return nil
}
