package apiserver

import (
	"net/http"
)

// bytes serves what lies beside an object. A PUT takes any content type: the body is the bytes themselves, and
// kubectl names JSON whatever it sends.
func (c *call) bytes(w http.ResponseWriter, r *http.Request) error {
	kept := c.kind.Bytes
	switch c.info.verb {
	case "get":
		data, _, err := c.registry.Bytes(r.Context(), c.gvr, c.namespace, c.name)
		if err != nil {
			return err
		}
		return writeRaw(w, r, http.StatusOK, kept.MediaType, data)
	case "update":
		neg, err := negotiate(r.Header.Get("Accept"), c.query, nil)
		if err != nil {
			return err
		}
		opts, err := c.writeOptions(r, updateOptionsKind)
		if err != nil {
			return err
		}
		data, err := readUpTo(w, r, int64(kept.Max))
		if err != nil {
			return err
		}
		entry, err := c.registry.PutBytes(r.Context(), c.gvr, c.namespace, c.name, data, c.updateOptions(opts))
		if err != nil {
			return err
		}
		return c.writeEntry(w, r, http.StatusOK, entry, neg)
	}
	return errMethod()
}
