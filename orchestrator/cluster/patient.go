package cluster

import (
	"errors"
	"net/http"
	"time"
)

// patient has watches wait until a server answers. An informer whose watch fails tries again less and less often, up to
// every 30 seconds, and would learn long after everything else that its node is connected again; one whose watch waits
// learns at once. Other requests fail as they always do: whoever makes them knows what to do then.
type patient struct{ *http.Transport }

// tryAgain is how long a watch waits between two tries, of all servers each.
const tryAgain = 500 * time.Millisecond

// RoundTrip implements http.RoundTripper.
func (p patient) RoundTrip(r *http.Request) (*http.Response, error) {
	for {
		response, err := p.Transport.RoundTrip(r)
		if err == nil || !errors.Is(err, errNoServer) || !watches(r) {
			return response, err
		}
		t := time.NewTimer(tryAgain)
		select {
		case <-t.C:
		case <-r.Context().Done():
			t.Stop()
			return nil, err
		}
	}
}

// watches says whether that is a request of an informer: a watch, or the list before it, which names a revision.
func watches(r *http.Request) bool {
	query := r.URL.Query()
	return r.Method == http.MethodGet && (query.Get("watch") == "true" || query.Has("resourceVersion"))
}
