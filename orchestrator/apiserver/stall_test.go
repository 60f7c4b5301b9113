package apiserver

import (
	"bufio"
	"context"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/pintle/pintle/internal/memnet"
)

func TestAClientThatStopsSendingIsLetGo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		listener := memnet.Listen()
		got := make(chan error, 2)
		server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			_, err := readBody(w, r)
			got <- err
		})}
		ended := make(chan error, 1)
		go func() { ended <- server.Serve(listener) }()
		conn, err := listener.Dial(context.Background(), nil)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if _, err := io.WriteString(conn, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{}"); err != nil {
			t.Fatal(err)
		}
		if err := <-got; err != nil {
			t.Error(err)
		}
		if _, err := http.ReadResponse(bufio.NewReader(conn), nil); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * requestTimeout) // the connection stays good between requests
		if _, err := io.WriteString(conn, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{"); err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		if err := <-got; !apierrors.IsTimeout(err) || !strings.Contains(err.Error(), "did not arrive in time") {
			t.Error(err)
		}
		if waited := time.Since(began); waited != requestTimeout {
			t.Errorf("let go after %v", waited)
		}
		_ = server.Close()
		<-ended
	})
}
