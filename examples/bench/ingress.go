package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/valyala/fasthttp"
)

const httpConnections = 64

// ingressMeasurement sends HTTP/1.1 requests on kept-alive connections through Pintle's ingress and
// Debian's nginx in turns, to the same backend in this process, with the same load.
func ingressMeasurement() measurement {
	const name = "ingress HTTP/1.1, small responses"
	return measurement{table: "main", rows: []string{name}, run: func(ctx context.Context, w *workshop) ([]Row, error) {
		program, err := w.build(ctx, ".", "./subject/ingress")
		if err != nil {
			return nil, err
		}
		listener, err := net.Listen("tcp4", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		backend := &fasthttp.Server{Handler: func(c *fasthttp.RequestCtx) { c.SetBodyString("hello\n") }}
		served := make(chan error, 1)
		go func() { served <- backend.Serve(listener) }()
		defer func() { listener.Close(); <-served }()

		ours, err := start(program, listener.Addr().String())
		if err != nil {
			return nil, err
		}
		defer ours.stop()
		address, err := ours.line(ctx, 10*time.Second)
		if err != nil {
			return nil, err
		}
		row := Row{Row: name, Unit: "1/s", PeerName: "Debian's nginx, 2 workers"}
		peer, peerAddress, err := startNginx(ctx, w, listener.Addr().String())
		if err != nil {
			row.PeerName = "nginx can't run here: " + err.Error()
		} else {
			defer peer.terminate()
		}
		load, by := loader()
		row.Note = "load by " + by
		var rate, peerRate float64
		for range loadRounds {
			r, err := load(ctx, address)
			if err != nil {
				return nil, err
			}
			rate += r / loadRounds
			if peer == nil {
				continue
			}
			if r, err = load(ctx, peerAddress); err != nil {
				return nil, fmt.Errorf("nginx: %w", err)
			}
			peerRate += r / loadRounds
		}
		row.Pintle = number(rate)
		if peer != nil {
			row.Peer = number(peerRate)
		}
		return []Row{row}, nil
	}}
}

func startNginx(ctx context.Context, w *workshop, backend string) (*process, string, error) {
	program, err := exec.LookPath("nginx")
	if err != nil {
		if program, err = exec.LookPath("/usr/sbin/nginx"); err != nil {
			return nil, "", errors.New("it isn't installed (apt install nginx-light)")
		}
	}
	dir, err := w.folder("nginx")
	if err != nil {
		return nil, "", err
	}
	free, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return nil, "", err
	}
	address := free.Addr().String()
	free.Close()
	user := ""
	if os.Geteuid() == 0 {
		user = "user root;\n" // the folder is ours alone
	}
	conf := filepath.Join(dir, "nginx.conf")
	text := user + fmt.Sprintf(`worker_processes 2;
daemon off;
pid %[1]s/pid;
error_log %[1]s/error.log;
events { worker_connections 1024; }
http {
	access_log off;
	keepalive_requests 1000000;
	client_body_temp_path %[1]s/body;
	proxy_temp_path %[1]s/proxy;
	fastcgi_temp_path %[1]s/fastcgi;
	uwsgi_temp_path %[1]s/uwsgi;
	scgi_temp_path %[1]s/scgi;
	upstream backend { server %[2]s; keepalive 128; keepalive_requests 1000000; }
	server {
		listen %[3]s;
		location / { proxy_pass http://backend; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_set_header Host $host; }
	}
}
`, dir, backend, address)
	if err := os.WriteFile(conf, []byte(text), 0o644); err != nil {
		return nil, "", err
	}
	p, err := start(program, "-e", filepath.Join(dir, "error.log"), "-p", dir, "-c", conf)
	if err != nil {
		return nil, "", err
	}
	for range 50 {
		if conn, err := new(net.Dialer).DialContext(ctx, "tcp4", address); err == nil {
			conn.Close()
			return p, address, nil
		}
		select {
		case <-p.ended:
			return nil, "", fmt.Errorf("it ended: %s", firstLines(p.stderr.String(), 3))
		case <-time.After(100 * time.Millisecond):
		}
	}
	p.terminate()
	return nil, "", errors.New("it didn't listen within 5 s")
}

// loader is wrk, or a generator of our own where it is missing. It returns good requests per second.
func loader() (load func(ctx context.Context, address string) (float64, error), name string) {
	if wrk, err := exec.LookPath("wrk"); err == nil {
		return func(ctx context.Context, address string) (float64, error) { return runWrk(ctx, wrk, address) }, "wrk"
	}
	return runOwnLoad, "an own generator (wrk isn't installed)"
}

func runWrk(ctx context.Context, wrk, address string) (float64, error) {
	out, err := exec.CommandContext(ctx, wrk, "-t2", fmt.Sprintf("-c%d", httpConnections),
		fmt.Sprintf("-d%ds", int(loadTime.Seconds())), "http://"+address+"/").CombinedOutput()
	if err != nil {
		return 0, fmt.Errorf("wrk: %w: %s", err, firstLines(string(out), 3))
	}
	rate := 0.0
	for line := range strings.Lines(string(out)) {
		line = strings.TrimSpace(line)
		if strings.HasPrefix(line, "Non-2xx") || strings.HasPrefix(line, "Socket errors") {
			return 0, fmt.Errorf("wrk: %s", line)
		}
		if text, ok := strings.CutPrefix(line, "Requests/sec:"); ok {
			if rate, err = strconv.ParseFloat(strings.TrimSpace(text), 64); err != nil {
				return 0, fmt.Errorf("wrk: %w", err)
			}
		}
	}
	if rate == 0 {
		return 0, errors.New("wrk: no requests")
	}
	return rate, nil
}

func runOwnLoad(ctx context.Context, address string) (float64, error) {
	ctx, cancel := context.WithTimeout(ctx, loadTime)
	defer cancel()
	client := &fasthttp.HostClient{Addr: address, MaxConns: httpConnections}
	var good, bad atomic.Int64
	var wg sync.WaitGroup
	begin := time.Now()
	for range httpConnections {
		wg.Go(func() {
			request, response := fasthttp.AcquireRequest(), fasthttp.AcquireResponse()
			request.SetRequestURI("http://" + address + "/")
			for ctx.Err() == nil {
				if err := client.Do(request, response); err != nil || response.StatusCode() != 200 {
					bad.Add(1)
					continue
				}
				good.Add(1)
			}
		})
	}
	wg.Wait()
	client.CloseIdleConnections()
	if bad.Load() > 0 || good.Load() == 0 {
		return 0, fmt.Errorf("%d requests failed, %d were answered", bad.Load(), good.Load())
	}
	return float64(good.Load()) / time.Since(begin).Seconds(), nil
}
