// Command demoserver is the application of the quickstart: it says which pod answered and in which
// version. It builds for Linux and for WASI, where its listener is descriptor 3.
//
// Like most programs it closes its listener at SIGTERM, finishes the requests that it has, and ends.
package main

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"runtime"
	"syscall"
	"time"
)

// version is set when the image is built.
var version = "dev"

func main() {
	if err := run(); err != nil {
		log.Fatal(err)
	}
}

func run() error {
	if os.Getenv("BROKEN") != "" || version == "v3" {
		return errors.New("this version is broken: it ends at once")
	}
	listener, err := listen()
	if err != nil {
		return err
	}
	host, _ := os.Hostname()
	if name := os.Getenv("POD_NAME"); name != "" {
		host = name
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintf(w, "%s %s\n", version, host) })
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}

	ctx, stop := ending()
	defer stop()
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(listener) }()
	log.Printf("demoserver %s on %s", version, host)
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
	}
	log.Print("ending")
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	return server.Shutdown(ctx)
}

// ending is done when the program is asked to end. WASI has no signals, and Go's wait for one would
// keep the guest busy and starve its network; there the engine closes the listener itself.
func ending() (context.Context, context.CancelFunc) {
	if runtime.GOOS == "wasip1" {
		return context.WithCancel(context.Background())
	}
	return signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
}

func listen() (net.Listener, error) {
	if runtime.GOOS == "wasip1" {
		return net.FileListener(os.NewFile(3, "listener"))
	}
	port := os.Getenv("PORT")
	if port == "" {
		port = "8080"
	}
	return net.Listen("tcp", ":"+port)
}
