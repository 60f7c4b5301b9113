package cluster

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

func TestOnlyWatchesWaitForAServer(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = w.Write([]byte("served")) }))
	defer server.Close()
	var back atomic.Bool
	var tries atomic.Int64
	p := patient{&http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
		tries.Add(1)
		if !back.Load() {
			return nil, errNoServer
		}
		return (&net.Dialer{}).DialContext(ctx, network, strings.TrimPrefix(server.URL, "http://"))
	}}}
	ask := func(ctx context.Context, method, query string) error {
		r, err := http.NewRequestWithContext(ctx, method, "http://api.invalid/api/v1/services"+query, nil)
		if err != nil {
			t.Fatal(err)
		}
		response, err := p.RoundTrip(r)
		if err == nil {
			response.Body.Close()
		}
		return err
	}
	for _, c := range []struct{ method, query string }{{http.MethodGet, ""}, {http.MethodPost, "?watch=true"}} {
		if err := ask(t.Context(), c.method, c.query); !errors.Is(err, errNoServer) {
			t.Errorf("%s %s: %v", c.method, c.query, err)
		}
	}
	for _, query := range []string{"?watch=true", "?resourceVersion=0"} {
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		begun := time.Now()
		if err := ask(ctx, http.MethodGet, query); err == nil || time.Since(begun) < 50*time.Millisecond {
			t.Errorf("%s ended after %v with %v, and its context had not", query, time.Since(begun), err)
		}
		cancel()
	}
	answered := make(chan error, 1)
	tries.Store(0)
	go func() { answered <- ask(t.Context(), http.MethodGet, "?watch=true&resourceVersion=7") }()
	waitFor(t, func() bool { return tries.Load() > 0 })
	back.Store(true)
	select {
	case err := <-answered:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(10 * time.Second):
		t.Error("the watch was not tried again")
	}
}
