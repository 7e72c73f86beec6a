// A member of a hashicorp/memberlist cluster, driven by a test.
//
// One JSON object a line: commands on standard input, answers and events on standard output. Every
// command carries an "id" and gets exactly one answer with that id, {"id":7,"ok":true,...} or
// {"id":7,"error":"..."}. Events carry "event". The process ends with its standard input.
//
// It is built on the memberlist package of Debian, old and new: what only newer versions have is
// set by reflection.
package main

import (
	"bufio"
	"encoding/base64"
	"encoding/json"
	"flag"
	"fmt"
	"log"
	"os"
	"reflect"
	"strings"
	"sync"

	"github.com/hashicorp/memberlist"
)

// output writes JSON lines; events come from many goroutines.
type output struct {
	mu     sync.Mutex
	writer *bufio.Writer
}

func (o *output) line(fields map[string]interface{}) {
	bytes, err := json.Marshal(fields)
	if err != nil {
		bytes = []byte(fmt.Sprintf(`{"event":"fault","text":%q}`, err.Error()))
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.writer.Write(bytes)
	o.writer.WriteByte('\n')
	o.writer.Flush()
}

// Write takes memberlist's log.
func (o *output) Write(text []byte) (int, error) {
	o.line(map[string]interface{}{"event": "log", "text": strings.TrimSpace(string(text))})
	return len(text), nil
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, "peer:", err)
	os.Exit(1)
}

type options struct {
	name, bind, profile, label, keys, meta, state, payload string
	port, protocol, delegateMin, delegateMax, delegateCur  int
	compress, verifyIncoming, verifyOutgoing               bool
}

func parse() options {
	var o options
	flag.StringVar(&o.name, "name", "", "member name")
	flag.StringVar(&o.bind, "bind", "127.0.0.1", "address to bind and advertise")
	flag.IntVar(&o.port, "port", 7947, "port to bind, UDP and TCP")
	flag.StringVar(&o.profile, "profile", "lan", "lan, wan or local")
	flag.StringVar(&o.label, "label", "", "label, where the package has labels")
	flag.StringVar(&o.keys, "keys", "", "base64 keys, comma-separated; the first encrypts")
	flag.BoolVar(&o.compress, "compress", true, "compress what is sent")
	flag.BoolVar(&o.verifyIncoming, "verify-incoming", true, "refuse plaintext where there are keys")
	flag.BoolVar(&o.verifyOutgoing, "verify-outgoing", true, "encrypt where there are keys")
	flag.IntVar(&o.protocol, "protocol", 2, "protocol version")
	flag.IntVar(&o.delegateMin, "delegate-min", 0, "delegate protocol version, lowest")
	flag.IntVar(&o.delegateMax, "delegate-max", 0, "delegate protocol version, highest")
	flag.IntVar(&o.delegateCur, "delegate-cur", 0, "delegate protocol version, current")
	flag.StringVar(&o.meta, "meta", "", "meta as text")
	flag.StringVar(&o.state, "state", "", "user state sent in every push-pull, as text")
	flag.StringVar(&o.payload, "ack-payload", "", "payload of every ack, as text")
	flag.Parse()
	return o
}

func config(o options) (*memberlist.Config, error) {
	var c *memberlist.Config
	switch o.profile {
	case "lan":
		c = memberlist.DefaultLANConfig()
	case "wan":
		c = memberlist.DefaultWANConfig()
	case "local":
		c = memberlist.DefaultLocalConfig()
	default:
		return nil, fmt.Errorf("no profile %q", o.profile)
	}
	c.Name, c.BindAddr, c.BindPort, c.AdvertisePort = o.name, o.bind, o.port, o.port
	c.EnableCompression = o.compress
	c.GossipVerifyIncoming, c.GossipVerifyOutgoing = o.verifyIncoming, o.verifyOutgoing
	c.ProtocolVersion = uint8(o.protocol)
	c.DelegateProtocolMin = uint8(o.delegateMin)
	c.DelegateProtocolMax = uint8(o.delegateMax)
	c.DelegateProtocolVersion = uint8(o.delegateCur)
	if o.label != "" {
		label := reflect.ValueOf(c).Elem().FieldByName("Label")
		if !label.IsValid() {
			return nil, fmt.Errorf("this memberlist has no labels")
		}
		label.SetString(o.label)
	}
	if o.keys != "" {
		var keys [][]byte
		for _, text := range strings.Split(o.keys, ",") {
			key, err := base64.StdEncoding.DecodeString(text)
			if err != nil {
				return nil, err
			}
			keys = append(keys, key)
		}
		ring, err := memberlist.NewKeyring(keys, keys[0])
		if err != nil {
			return nil, err
		}
		c.Keyring = ring
	}
	return c, nil
}

func main() {
	o := parse()
	out := &output{writer: bufio.NewWriter(os.Stdout)}
	c, err := config(o)
	if err != nil {
		fail(err)
	}
	c.Logger = log.New(out, "", 0)
	inner, err := memberlist.NewNetTransport(&memberlist.NetTransportConfig{
		BindAddrs: []string{o.bind}, BindPort: o.port, Logger: c.Logger,
	})
	if err != nil {
		fail(err)
	}
	link := newTransport(inner)
	hooks := newHooks(out, o)
	c.Transport, c.Delegate, c.Events, c.Conflict, c.Ping = link, hooks, hooks, hooks, hooks
	list, err := memberlist.Create(c)
	if err != nil {
		fail(err)
	}
	hooks.attach(list, c.RetransmitMult)
	out.line(map[string]interface{}{"event": "ready", "member": member(list.LocalNode())})

	peer := &peer{list: list, hooks: hooks, transport: link, keyring: c.Keyring}
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, 16<<20)
	for lines.Scan() {
		var command command
		if err := json.Unmarshal(lines.Bytes(), &command); err != nil {
			fail(err)
		}
		answer, err := peer.run(command)
		if answer == nil {
			answer = map[string]interface{}{}
		}
		answer["id"], answer["ok"] = command.ID, err == nil
		if err != nil {
			answer["error"] = err.Error()
		}
		out.line(answer)
	}
	list.Shutdown()
}
