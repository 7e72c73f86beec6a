package main

import (
	"sync"
	"time"

	"github.com/hashicorp/memberlist"
)

// hooks is every delegate of memberlist at once; each call becomes an event line.
type hooks struct {
	out        *output
	payload    []byte
	mu         sync.Mutex
	meta       []byte
	state      []byte
	broadcasts *memberlist.TransmitLimitedQueue
}

func newHooks(out *output, o options) *hooks {
	return &hooks{
		out: out, meta: []byte(o.meta), state: []byte(o.state), payload: []byte(o.payload),
	}
}

// attach starts user broadcasts; before it there is nobody to broadcast to.
func (h *hooks) attach(list *memberlist.Memberlist, retransmit int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.broadcasts = &memberlist.TransmitLimitedQueue{
		NumNodes: list.NumMembers, RetransmitMult: retransmit,
	}
}

// member is a node as JSON; bytes become base64. Its State is left out: memberlist 0.2 keeps the
// state elsewhere and never sets this one.
func member(n *memberlist.Node) map[string]interface{} {
	return map[string]interface{}{
		"name": n.Name, "address": n.Address(), "meta": n.Meta,
		"versions": []int{
			int(n.PMin), int(n.PMax), int(n.PCur), int(n.DMin), int(n.DMax), int(n.DCur),
		},
	}
}

func (h *hooks) event(name string, fields map[string]interface{}) {
	fields["event"] = name
	h.out.line(fields)
}

func (h *hooks) setMeta(meta []byte) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.meta = meta
}

func (h *hooks) broadcast(payload []byte) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.broadcasts.QueueBroadcast(unique(payload))
}

// NodeMeta is what this member announces.
func (h *hooks) NodeMeta(limit int) []byte {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.meta
}

// NotifyMsg is a user message, over UDP or TCP; memberlist does not say which.
func (h *hooks) NotifyMsg(payload []byte) {
	h.event("message", map[string]interface{}{"payload": append([]byte{}, payload...)})
}

// GetBroadcasts fills what is left of a gossip packet.
func (h *hooks) GetBroadcasts(overhead, limit int) [][]byte {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.broadcasts == nil {
		return nil
	}
	return h.broadcasts.GetBroadcasts(overhead, limit)
}

// LocalState is the user state of a push-pull we send.
func (h *hooks) LocalState(join bool) []byte {
	return h.state
}

// MergeRemoteState is a non-empty user state received.
func (h *hooks) MergeRemoteState(state []byte, join bool) {
	h.event("state", map[string]interface{}{"payload": append([]byte{}, state...), "join": join})
}

func (h *hooks) NotifyJoin(n *memberlist.Node) {
	h.event("join", map[string]interface{}{"member": member(n)})
}

func (h *hooks) NotifyLeave(n *memberlist.Node) {
	h.event("leave", map[string]interface{}{"member": member(n)})
}

func (h *hooks) NotifyUpdate(n *memberlist.Node) {
	h.event("update", map[string]interface{}{"member": member(n)})
}

func (h *hooks) NotifyConflict(existing, other *memberlist.Node) {
	h.event("conflict", map[string]interface{}{
		"member": member(existing), "other": member(other),
	})
}

// AckPayload rides on every ack to a UDP ping.
func (h *hooks) AckPayload() []byte {
	return h.payload
}

// NotifyPingComplete is a direct ack within the probe timeout.
func (h *hooks) NotifyPingComplete(n *memberlist.Node, rtt time.Duration, payload []byte) {
	h.event("pinged", map[string]interface{}{
		"name": n.Name, "rtt_us": rtt.Microseconds(), "payload": payload,
	})
}

// unique is a user broadcast that replaces no other.
type unique []byte

func (b unique) Invalidates(memberlist.Broadcast) bool { return false }
func (b unique) Message() []byte                       { return b }
func (b unique) Finished()                             {}
func (b unique) UniqueBroadcast()                      {}
