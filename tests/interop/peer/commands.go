package main

import (
	"encoding/hex"
	"fmt"
	"net"
	"sync/atomic"
	"time"

	"github.com/hashicorp/memberlist"
)

// command is one line of standard input; which fields count depends on Do. Bytes are base64.
type command struct {
	ID        int      `json:"id"`
	Do        string   `json:"do"`
	Addresses []string `json:"addresses"`
	Address   string   `json:"address"`
	Member    string   `json:"member"`
	Payload   []byte   `json:"payload"`
	Hex       string   `json:"hex"`
	Key       []byte   `json:"key"`
	Rules     rules    `json:"rules"`
}

// How long leave and meta wait for their broadcast to be sent often enough.
const broadcastTimeout = 5 * time.Second

type peer struct {
	list      *memberlist.Memberlist
	hooks     *hooks
	transport *transport
	keyring   *memberlist.Keyring
}

func (p *peer) run(c command) (map[string]interface{}, error) {
	switch c.Do {
	case "join":
		joined, err := p.list.Join(c.Addresses)
		return map[string]interface{}{"joined": joined}, err
	case "leave":
		return nil, p.list.Leave(broadcastTimeout)
	case "meta":
		p.hooks.setMeta(c.Payload)
		return nil, p.list.UpdateNode(broadcastTimeout)
	case "send-udp", "send-tcp":
		to, err := p.find(c.Member)
		if err != nil {
			return nil, err
		}
		if c.Do == "send-udp" {
			return nil, p.list.SendBestEffort(to, c.Payload)
		}
		return nil, p.list.SendReliable(to, c.Payload)
	case "broadcast":
		p.hooks.broadcast(c.Payload)
		return nil, nil
	case "ping":
		return p.ping(c.Member)
	case "members":
		return p.members(), nil
	case "raw":
		packet, err := hex.DecodeString(c.Hex)
		if err != nil {
			return nil, err
		}
		_, err = p.transport.WriteTo(packet, c.Address)
		return nil, err
	case "lose":
		p.transport.set(c.Rules)
		return map[string]interface{}{"lost": atomic.LoadInt64(&p.transport.lost)}, nil
	case "key-install":
		return nil, p.keyring.AddKey(c.Key)
	case "key-use":
		return nil, p.keyring.UseKey(c.Key)
	case "key-remove":
		return nil, p.keyring.RemoveKey(c.Key)
	}
	return nil, fmt.Errorf("no command %q", c.Do)
}

func (p *peer) find(name string) (*memberlist.Node, error) {
	for _, node := range p.list.Members() {
		if node.Name == name {
			return node, nil
		}
	}
	return nil, fmt.Errorf("no member %q", name)
}

func (p *peer) ping(name string) (map[string]interface{}, error) {
	node, err := p.find(name)
	if err != nil {
		return nil, err
	}
	address := &net.UDPAddr{IP: node.Addr, Port: int(node.Port)}
	rtt, err := p.list.Ping(name, address)
	return map[string]interface{}{"rtt_us": rtt.Microseconds()}, err
}

// members lists who is alive or suspect; memberlist shows the others to nobody but its peers.
func (p *peer) members() map[string]interface{} {
	members := []interface{}{}
	for _, node := range p.list.Members() {
		members = append(members, member(node))
	}
	return map[string]interface{}{
		"members": members, "health": p.list.GetHealthScore(),
	}
}
