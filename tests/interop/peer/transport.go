package main

import (
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/memberlist"
)

// rules say what a transport loses: a network fault that needs no privilege.
type rules struct {
	// Addresses whose packets are lost both ways and that cannot be dialled.
	Addresses []string `json:"addresses"`
	// Streams dialled by anyone are closed.
	Streams bool `json:"streams"`
	// Our requests for indirect pings are lost; only recognised where nothing is encrypted.
	Indirect bool `json:"indirect"`
}

func (r *rules) names(address string) bool {
	for _, lost := range r.Addresses {
		if lost == address {
			return true
		}
	}
	return false
}

// transport is memberlist's own with faults in front of it.
type transport struct {
	*memberlist.NetTransport
	mu      sync.RWMutex
	rules   rules
	lost    int64
	packets chan *memberlist.Packet
	streams chan net.Conn
	closed  chan struct{}
}

func newTransport(inner *memberlist.NetTransport) *transport {
	t := &transport{
		NetTransport: inner,
		packets:      make(chan *memberlist.Packet),
		streams:      make(chan net.Conn),
		closed:       make(chan struct{}),
	}
	go t.forward()
	return t
}

func (t *transport) set(r rules) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.rules = r
}

func (t *transport) current() rules {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.rules
}

// forward passes on what the rules let through.
func (t *transport) forward() {
	for {
		select {
		case packet := <-t.NetTransport.PacketCh():
			r := t.current()
			if r.names(packet.From.String()) {
				atomic.AddInt64(&t.lost, 1)
				continue
			}
			select {
			case t.packets <- packet:
			case <-t.closed:
				return
			}
		case stream := <-t.NetTransport.StreamCh():
			if t.current().Streams {
				atomic.AddInt64(&t.lost, 1)
				stream.Close()
				continue
			}
			select {
			case t.streams <- stream:
			case <-t.closed:
				return
			}
		case <-t.closed:
			return
		}
	}
}

// The first byte of a plain request for an indirect ping, alone in its packet.
const indirectPing = 1

func (t *transport) WriteTo(bytes []byte, address string) (time.Time, error) {
	return t.WriteToAddress(bytes, memberlist.Address{Addr: address})
}

func (t *transport) WriteToAddress(bytes []byte, to memberlist.Address) (time.Time, error) {
	r := t.current()
	if r.names(to.Addr) || (r.Indirect && len(bytes) > 0 && bytes[0] == indirectPing) {
		atomic.AddInt64(&t.lost, 1)
		return time.Now(), nil
	}
	return t.NetTransport.WriteToAddress(bytes, to)
}

func (t *transport) DialTimeout(address string, timeout time.Duration) (net.Conn, error) {
	return t.DialAddressTimeout(memberlist.Address{Addr: address}, timeout)
}

func (t *transport) DialAddressTimeout(
	to memberlist.Address, timeout time.Duration,
) (net.Conn, error) {
	r := t.current()
	if r.names(to.Addr) {
		atomic.AddInt64(&t.lost, 1)
		return nil, fmt.Errorf("the test cut the link to %s", to.Addr)
	}
	return t.NetTransport.DialAddressTimeout(to, timeout)
}

func (t *transport) PacketCh() <-chan *memberlist.Packet { return t.packets }

func (t *transport) StreamCh() <-chan net.Conn { return t.streams }

func (t *transport) Shutdown() error {
	close(t.closed)
	// The listeners hand over what they hold before they end.
	go func() {
		for range t.NetTransport.PacketCh() {
		}
	}()
	go func() {
		for stream := range t.NetTransport.StreamCh() {
			stream.Close()
		}
	}()
	return t.NetTransport.Shutdown()
}
