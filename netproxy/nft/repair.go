//go:build linux

package nft

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// Repair makes the table anew if somebody else flushed, deleted or changed it, and says whether it
// did. While nobody else touches nftables it costs one message; after somebody did, it lists our
// rules and elements once. Before the first Apply it does nothing.
func (p *Proxy) Repair(context.Context) (repaired bool, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.synced {
		return false, nil
	}
	gen, err := p.generation()
	if err != nil {
		return false, err
	}
	if gen == p.gen {
		return false, nil
	}
	intact, err := p.intact()
	if err != nil {
		return false, err
	}
	if intact {
		p.gen = gen // a change since then has a higher one
		return false, nil
	}
	p.log.Warn("somebody changed our nftables table; making it anew", "table", p.t.t.Name)
	return true, p.replace(nil)
}

// committed notes the generation after a transaction of ours. A foreign transaction in between makes
// it unknown, and the next Repair looks.
func (p *Proxy) committed() {
	was := p.gen
	p.gen = 0
	if gen, err := p.generation(); err == nil && was != 0 && gen == was+1 {
		p.gen = gen
	}
}

func question(kind uint16, flags netlink.HeaderFlags, attrs ...netlink.Attribute) (netlink.Message, error) {
	data, err := netlink.MarshalAttributes(attrs)
	return netlink.Message{Header: netlink.Header{Type: netlink.HeaderType(unix.NFNL_SUBSYS_NFTABLES<<8 | kind), Flags: netlink.Request | flags},
		Data: append([]byte{unix.NFPROTO_IPV4, unix.NFNETLINK_V0, 0, 0}, data...)}, err
}

func (p *Proxy) generation() (uint32, error) {
	m, err := question(unix.NFT_MSG_GETGEN, 0)
	if err != nil {
		return 0, err
	}
	answers, err := p.ask.Execute(m)
	if err != nil {
		return 0, fmt.Errorf("ask nftables generation: %w", err)
	}
	for _, a := range answers {
		if len(a.Data) < 4 {
			continue
		}
		ad, err := decoder(a.Data[4:])
		if err != nil {
			return 0, err
		}
		for ad.Next() {
			if ad.Type() == unix.NFTA_GEN_ID {
				return ad.Uint32(), nil
			}
		}
	}
	return 0, errors.New("nftables gave no generation")
}

func decoder(b []byte) (*netlink.AttributeDecoder, error) {
	ad, err := netlink.NewAttributeDecoder(b)
	if err == nil {
		ad.ByteOrder = binary.BigEndian
	}
	return ad, err
}

// intact compares the kernel's rules and elements with ours.
func (p *Proxy) intact() (bool, error) {
	table := netlink.Attribute{Type: unix.NFTA_RULE_TABLE, Data: []byte(p.t.t.Name + "\x00")}
	m, err := question(unix.NFT_MSG_GETRULE, netlink.Dump, table)
	if err != nil {
		return false, err
	}
	rules, err := p.ask.Execute(m)
	if gone(err) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("list rules: %w", err)
	}
	if len(rules) != p.t.rules {
		return false, nil
	}
	for i, set := range p.t.sets {
		m, err := question(unix.NFT_MSG_GETSETELEM, netlink.Dump,
			netlink.Attribute{Type: unix.NFTA_SET_ELEM_LIST_TABLE, Data: table.Data},
			netlink.Attribute{Type: unix.NFTA_SET_ELEM_LIST_SET, Data: []byte(set.Name + "\x00")})
		if err != nil {
			return false, err
		}
		answers, err := p.ask.Execute(m)
		if gone(err) {
			return false, nil
		}
		if err != nil {
			return false, fmt.Errorf("list elements: %w", err)
		}
		n := 0
		for _, a := range answers {
			keys, err := elementKeys(a.Data)
			if err != nil {
				return false, err
			}
			for _, k := range keys {
				if _, ok := p.have[i][k]; !ok {
					return false, nil
				}
			}
			n += len(keys)
		}
		if n != len(p.have[i]) {
			return false, nil
		}
	}
	return true, nil
}

func gone(err error) bool { return errors.Is(err, unix.ENOENT) }

// elementKeys returns the keys in one answer to NFT_MSG_GETSETELEM.
func elementKeys(b []byte) (keys []string, err error) {
	if len(b) < 4 {
		return nil, nil
	}
	ad, err := decoder(b[4:])
	if err != nil {
		return nil, err
	}
	for ad.Next() {
		if ad.Type() != unix.NFTA_SET_ELEM_LIST_ELEMENTS {
			continue
		}
		ad.Nested(func(list *netlink.AttributeDecoder) error {
			for list.Next() {
				list.Nested(func(elem *netlink.AttributeDecoder) error {
					for elem.Next() {
						if elem.Type() != unix.NFTA_SET_ELEM_KEY {
							continue
						}
						elem.Nested(func(data *netlink.AttributeDecoder) error {
							for data.Next() {
								if data.Type() == unix.NFTA_DATA_VALUE {
									keys = append(keys, string(data.Bytes()))
								}
							}
							return nil
						})
					}
					return nil
				})
			}
			return nil
		})
	}
	return keys, ad.Err()
}
