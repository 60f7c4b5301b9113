package kubescheduler

import (
	"encoding/json"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/pintle/pintle/policies/abi"
)

// nodeBytes is a node as Kubernetes' protobuf; nothing if there is none of that name.
func (c *cycle) nodeBytes(name string) ([]byte, error) {
	if c.run == nil {
		if c.known == nil {
			return nil, errOutside
		}
		if b := c.e.keptNode(name); b != nil {
			return b, nil
		}
		return encodeNode(&abi.Node{Name: name}), nil
	}
	row, found := c.row, c.node == name
	if !found {
		if row, found = c.run.Nodes.Row(name); !found {
			return nil, nil
		}
	}
	b, err := c.run.node(row)
	if err == nil {
		c.e.keepNode(name, b, c.run.Nodes.Len())
	}
	return b, err
}

func (run *placing) node(row uint32) ([]byte, error) {
	if run.NodeObject != nil {
		return run.NodeObject(row)
	}
	return encodeNode(nodeOf(run.Nodes, row)), nil
}

// nodeList is all nodes as a NodeList.
func (c *cycle) nodeList() ([]byte, error) {
	if c.run == nil {
		return nil, nil
	}
	if c.run.list == nil {
		list := []byte{}
		for _, row := range c.run.Nodes.AppendRows(nil) {
			b, err := c.run.node(row)
			if err != nil {
				return nil, err
			}
			list = field(list, 2, b)
		}
		c.run.list = list
	}
	return c.run.list, nil
}

// image is an image as ImageLocality and its like know it.
type image struct{ Size, NumNodes int64 }

// imageStates is the images of a node by name, with how many nodes have each, as JSON.
func (c *cycle) imageStates(name string) ([]byte, error) {
	if c.run == nil {
		return []byte("null"), nil
	}
	row, ok := c.run.Nodes.Row(name)
	if !ok {
		return []byte("null"), nil
	}
	if c.run.images == nil {
		all := map[string]image{}
		for _, row := range c.run.Nodes.AppendRows(nil) {
			b, err := c.run.node(row)
			if err != nil {
				return nil, err
			}
			eachImage(b, func(name string, size int64) {
				i := all[name]
				all[name] = image{size, i.NumNodes + 1}
			})
		}
		c.run.images = all
	}
	b, err := c.run.node(row)
	if err != nil {
		return nil, err
	}
	own := map[string]image{}
	eachImage(b, func(name string, _ int64) { own[name] = c.run.images[name] })
	return json.Marshal(own)
}

// eachImage calls fn with the names in a node's status.images.
func eachImage(node []byte, fn func(name string, size int64)) {
	eachField(node, func(n protowire.Number, status []byte, _ uint64) {
		if n != 3 {
			return
		}
		eachField(status, func(n protowire.Number, entry []byte, _ uint64) {
			if n != 8 {
				return
			}
			var names []string
			var size int64
			eachField(entry, func(n protowire.Number, b []byte, v uint64) {
				switch n {
				case 1:
					names = append(names, string(b))
				case 2:
					size = int64(v)
				}
			})
			for _, name := range names {
				fn(name, size)
			}
		})
	})
}

// eachField calls fn with the fields of a message; it ends where the message is broken.
func eachField(b []byte, fn func(n protowire.Number, bytes []byte, value uint64)) {
	for len(b) > 0 {
		n, t, size := protowire.ConsumeTag(b)
		if size < 0 {
			return
		}
		b = b[size:]
		var bytes []byte
		var value uint64
		switch t {
		case protowire.BytesType:
			bytes, size = protowire.ConsumeBytes(b)
		case protowire.VarintType:
			value, size = protowire.ConsumeVarint(b)
		default:
			size = protowire.ConsumeFieldValue(n, t, b)
		}
		if size < 0 {
			return
		}
		fn(n, bytes, value)
		b = b[size:]
	}
}

func field(b []byte, n protowire.Number, content []byte) []byte {
	return protowire.AppendBytes(protowire.AppendTag(b, n, protowire.BytesType), content)
}

// text writes empty strings too, as Kubernetes does: guests may take a field that is missing for a null.
func text(b []byte, n protowire.Number, s string) []byte {
	return protowire.AppendString(protowire.AppendTag(b, n, protowire.BytesType), s)
}

func number(b []byte, n protowire.Number, v uint64) []byte {
	return protowire.AppendVarint(protowire.AppendTag(b, n, protowire.VarintType), v)
}

func pairs(b []byte, n protowire.Number, list []abi.Pair) []byte {
	for _, p := range list {
		entry := protowire.AppendString(protowire.AppendTag(nil, 1, protowire.BytesType), p.Key)
		b = field(b, n, protowire.AppendString(protowire.AppendTag(entry, 2, protowire.BytesType), p.Value))
	}
	return b
}

func quantities(b []byte, n protowire.Number, list []abi.Quantity) []byte {
	for _, q := range list {
		b = field(b, n, field(text(nil, 1, q.Name), 2, text(nil, 1, milli(q.Milli))))
	}
	return b
}
