package apiserver

import (
	"net"
	"net/http"
	"sync"
)

// unusedConns are connections that have carried no request yet. Clients dial more of them than they
// use, and http.Server.Shutdown would wait five seconds for each to say something.
type unusedConns struct {
	mu    sync.Mutex // guards conns
	conns map[net.Conn]struct{}
}

func newUnusedConns() *unusedConns { return &unusedConns{conns: map[net.Conn]struct{}{}} }

// note is an http.Server's ConnState hook.
func (u *unusedConns) note(c net.Conn, state http.ConnState) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if state == http.StateNew {
		u.conns[c] = struct{}{}
		return
	}
	delete(u.conns, c)
}

func (u *unusedConns) closeAll() {
	u.mu.Lock()
	conns := make([]net.Conn, 0, len(u.conns))
	for c := range u.conns {
		conns = append(conns, c)
	}
	u.mu.Unlock()
	for _, c := range conns { // outside the lock: closing calls note
		_ = c.Close()
	}
}
