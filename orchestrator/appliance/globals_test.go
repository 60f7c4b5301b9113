package appliance_test

import (
	"flag"
	"fmt"
	"log"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"os"
	"os/signal"
	"reflect"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/sirupsen/logrus"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	"k8s.io/klog/v2"
)

// globals is what a process has only one of, in words that can be compared.
func globals() (map[string]string, error) {
	found := map[string]string{
		"os.Args":              fmt.Sprint(os.Args),
		"http.DefaultClient":   fmt.Sprintf("%p %+v", http.DefaultClient, *http.DefaultClient),
		"http.DefaultServeMux": strings.Join(patterns(http.DefaultServeMux), " "),
		"net.DefaultResolver":  fmt.Sprintf("%p %v", net.DefaultResolver, net.DefaultResolver.PreferGo),
		"log":                  fmt.Sprintf("%p %d %q", log.Writer(), log.Flags(), log.Prefix()),
		"slog.Default":         fmt.Sprintf("%p", slog.Default().Handler()),
		"logrus":               fmt.Sprintf("%p %p %v %v", logrus.StandardLogger().Out, logrus.StandardLogger().Formatter, logrus.GetLevel(), logrus.StandardLogger().Hooks),
		"klog.Background":      fmt.Sprintf("%+v", klog.Background()),
		"GOMAXPROCS":           fmt.Sprint(runtime.GOMAXPROCS(0)),
		"memory limit":         fmt.Sprint(debug.SetMemoryLimit(-1)),
		"time.Local":           time.Local.String(),
		"client-go's handlers": fmt.Sprint(len(utilruntime.ErrorHandlers), len(utilruntime.PanicHandlers), utilruntime.ReallyCrash),
	}
	percent := debug.SetGCPercent(100)
	debug.SetGCPercent(percent)
	found["GC percent"] = fmt.Sprint(percent)

	transport := http.DefaultTransport.(*http.Transport)
	found["http.DefaultTransport"] = fmt.Sprintf("%p %p %v %v", transport, transport.DialContext, transport.TLSClientConfig != nil, transport.MaxIdleConns)

	var flags []string
	flag.VisitAll(func(f *flag.Flag) {
		if !strings.HasPrefix(f.Name, "test.") { // the testing package's
			flags = append(flags, f.Name+"="+f.Value.String())
		}
	})
	found["flag.CommandLine"] = strings.Join(flags, " ")

	var klogFlags flag.FlagSet
	klog.InitFlags(&klogFlags)
	var settings []string
	klogFlags.VisitAll(func(f *flag.Flag) { settings = append(settings, f.Name+"="+f.Value.String()) })
	found["klog's flags"] = strings.Join(settings, " ")

	families, err := prometheus.DefaultGatherer.Gather()
	if err != nil {
		return nil, err
	}
	names := map[string]bool{}
	for _, f := range families {
		prefix, _, _ := strings.Cut(f.GetName(), "_")
		names[prefix] = true
	}
	found["prometheus.DefaultGatherer"] = strings.Join(slices.Sorted(maps.Keys(names)), " ")

	var ignored []string
	for s := syscall.Signal(1); s < 32; s++ {
		if signal.Ignored(s) {
			ignored = append(ignored, s.String())
		}
	}
	found["signals ignored"] = strings.Join(ignored, " ")

	if found["working directory"], err = os.Getwd(); err != nil {
		return nil, err
	}
	env := os.Environ()
	slices.Sort(env)
	found["environment"] = strings.Join(env, "\n")
	maps.Copy(found, platformGlobals())
	return found, nil
}

// patterns are what is registered with a mux, which it has no method for.
func patterns(mux *http.ServeMux) []string {
	found := map[string]bool{}
	seen := map[uintptr]bool{}
	var walk func(reflect.Value)
	walk = func(v reflect.Value) {
		switch v.Kind() {
		case reflect.Pointer:
			if v.IsNil() || seen[v.Pointer()] {
				return
			}
			seen[v.Pointer()] = true
			walk(v.Elem())
		case reflect.Interface:
			// Handlers are interfaces, and their insides don't matter here.
		case reflect.Struct:
			if v.Type().Name() == "pattern" {
				found[v.FieldByName("str").String()] = true
				return
			}
			for i := range v.NumField() {
				walk(v.Field(i))
			}
		case reflect.Slice:
			for i := range v.Len() {
				walk(v.Index(i))
			}
		case reflect.Map:
			for it := v.MapRange(); it.Next(); {
				walk(it.Value())
			}
		}
	}
	walk(reflect.ValueOf(mux))
	return slices.Sorted(maps.Keys(found))
}

// importsAlone is what merely importing the appliance does to its host: none of it is ours to change.
var importsAlone = map[string]string{
	"flag.CommandLine": "",
	// golang.org/x/net/trace, by way of containerd's grpc, registers the first two; expvar, by way of the
	// Prometheus client, the third.
	"http.DefaultServeMux": "/debug/events /debug/requests GET /debug/vars",
	// The Prometheus client registers collectors of the Go runtime and of the process.
	"prometheus.DefaultGatherer": "go process",
	"signals ignored":            "",
}
