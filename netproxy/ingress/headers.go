package ingress

import (
	"bufio"
	"bytes"
	"strconv"
	"strings"

	"github.com/valyala/fasthttp"
)

// target is where one request goes, and for whom.
type target struct {
	client    *tracked
	uri, host []byte
	end       func() // the request is no longer open
	streams   bool   // its answer goes on after it was forwarded
}

// ours says whether a request's header is one that the ingress alone sets, or that concerns one
// connection only: a client's is never passed on.
func ours(name string) bool {
	switch name {
	case "Connection", "Keep-Alive", "Proxy-Connection", "Proxy-Authenticate", "Proxy-Authorization", "Te", "Transfer-Encoding", "Upgrade", "Expect",
		"Forwarded", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "X-Forwarded-Port", "X-Forwarded-Scheme", "X-Forwarded-Ssl", "X-Real-Ip":
		return true
	}
	return false
}

// disguised finds names that CGI and its like read as one of ours: X_Forwarded_For.
func disguised(name []byte) bool {
	if bytes.IndexByte(name, '_') < 0 {
		return false
	}
	parts := strings.Split(strings.ReplaceAll(strings.ToLower(string(name)), "_", "-"), "-")
	for i, p := range parts {
		if p != "" {
			parts[i] = strings.ToUpper(p[:1]) + p[1:]
		}
	}
	return ours(strings.Join(parts, "-"))
}

// listed says whether a Connection header names the header.
func listed(connection, name []byte) bool {
	for len(connection) > 0 {
		var item []byte
		item, connection, _ = bytes.Cut(connection, []byte(","))
		if bytes.EqualFold(bytes.TrimSpace(item), name) {
			return true
		}
	}
	return false
}

// writeHead writes the request as its endpoint gets it. Errors stick to the writer.
func writeHead(w *bufio.Writer, req *fasthttp.Request, to *target, body *fastBody, upgrade string) {
	h := &req.Header
	method := h.Method()
	w.Write(method)
	w.WriteByte(' ')
	w.Write(to.uri)
	w.WriteString(" HTTP/1.1\r\nHost: ")
	w.Write(to.host)
	text := func(k, v string) {
		w.WriteString("\r\n")
		w.WriteString(k)
		w.WriteString(": ")
		w.WriteString(v)
	}
	isChunked := body.stream != nil && body.length < 0
	connection := h.Peek("Connection")
	for k, v := range h.All() {
		switch {
		case string(k) == "Host", string(k) == "Content-Length", ours(string(k)), disguised(k):
			continue
		case string(k) == "Trailer" && !isChunked, len(connection) > 0 && listed(connection, k):
			continue
		}
		w.WriteString("\r\n")
		w.Write(k)
		w.WriteString(": ")
		w.Write(v)
	}
	switch n := len(body.buf); {
	case isChunked:
		text("Transfer-Encoding", "chunked")
	case body.stream != nil:
		text("Content-Length", strconv.Itoa(body.length))
	case n > 0:
		text("Content-Length", strconv.Itoa(n))
	default:
		switch string(method) {
		case "POST", "PUT", "PATCH":
			text("Content-Length", "0")
		}
	}
	text("X-Forwarded-For", to.client.ip)
	text("X-Real-Ip", to.client.ip)
	w.WriteString("\r\nX-Forwarded-Host: ")
	w.Write(to.host)
	text("X-Forwarded-Proto", to.client.proto)
	text("X-Forwarded-Port", to.client.port)
	if upgrade != "" {
		text("Connection", "Upgrade")
		text("Upgrade", upgrade)
	}
	w.WriteString("\r\n\r\n")
}

// dropHop removes from an answer what concerns one connection only.
func dropHop(h *fasthttp.ResponseHeader) {
	found := h.ConnectionClose()
	for k := range h.All() {
		switch string(k) {
		case "Connection", "Keep-Alive", "Proxy-Connection", "Proxy-Authenticate", "Upgrade":
			found = true
		}
	}
	if !found {
		return
	}
	for name := range bytes.SplitSeq(bytes.Clone(h.Peek("Connection")), []byte(",")) {
		if name = bytes.TrimSpace(name); len(name) > 0 {
			h.DelBytes(name)
		}
	}
	for _, k := range [...]string{"Connection", "Keep-Alive", "Proxy-Connection", "Proxy-Authenticate", "Upgrade"} {
		h.Del(k)
	}
	h.ResetConnectionClose()
}

// strict refuses what two parsers might read differently, and so what smuggles requests: bare line
// feeds, folded lines, a length beside chunks, codings other than chunked, HTTP/1.1 without a host.
func strict(h *fasthttp.RequestHeader) string {
	raw := h.RawHeaders()
	length, coding := false, false
	for len(raw) > 0 {
		i := bytes.IndexByte(raw, '\n')
		if i < 0 {
			break
		}
		if i == 0 || raw[i-1] != '\r' {
			return "bare line feed in header"
		}
		line := raw[:i-1]
		raw = raw[i+1:]
		if len(line) == 0 {
			break
		}
		if colon := bytes.IndexByte(line, ':'); line[0] != ' ' && bytes.IndexByte(line[:max(colon, 0)], ' ') >= 0 {
			return "space in a header's name"
		}
		switch line[0] | 0x20 {
		case ' ', '\t' | 0x20:
			return "folded header line"
		case 'c':
			length = length || is(line, "content-length:")
		case 't':
			if is(line, "transfer-encoding:") {
				coding = true
				if !bytes.EqualFold(bytes.TrimSpace(line[len("transfer-encoding:"):]), []byte("chunked")) {
					return "transfer coding other than chunked"
				}
			}
		}
	}
	switch {
	case length && coding:
		return "both Content-Length and Transfer-Encoding"
	case len(h.Host()) == 0 && h.IsHTTP11():
		return "no Host header"
	}
	return ""
}

func is(line []byte, name string) bool {
	return len(line) >= len(name) && bytes.EqualFold(line[:len(name)], []byte(name))
}
