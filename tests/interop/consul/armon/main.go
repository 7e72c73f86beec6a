// Armon's client of Consul for Go, as Debian has it, against nodes of ours: armon NODE..
//
// All that it has for keys is asked of each; one of them may be a balancer before the others.
// Prints what was checked; fails at the first thing that is wrong.
package main

import (
	"bytes"
	"fmt"
	"os"
	"strings"
	"time"

	consul "github.com/armon/consul-api"
)

const odd = "sp ace/\u00fcn\u00ef+&=:;@[]"

func must(holds bool, what string, args ...interface{}) {
	if !holds {
		panic(fmt.Sprintf(what, args...))
	}
}

// Nodes differ for a moment.
func eventually(what string, holds func() bool) {
	until := time.Now().Add(10 * time.Second)
	for !holds() {
		must(time.Now().Before(until), what)
		time.Sleep(10 * time.Millisecond)
	}
}

func check(at string, root string) {
	config := consul.DefaultConfig()
	config.Address = at
	client, err := consul.NewClient(config)
	must(err == nil, "a client: %v", err)
	kv := client.KV()
	get := func(key string) *consul.KVPair {
		pair, _, err := kv.Get(root+key, nil)
		must(err == nil, "get %s: %v", key, err)
		return pair
	}
	put := func(key string, flags uint64, value []byte) {
		_, err := kv.Put(&consul.KVPair{Key: root + key, Flags: flags, Value: value}, nil)
		must(err == nil, "put %s: %v", key, err)
		is := func() bool {
			pair := get(key)
			return pair != nil && bytes.Equal(pair.Value, value) && pair.Flags == flags
		}
		eventually("put "+key, is)
	}
	put("a", 42, []byte("1"))
	put("bytes", 0, []byte{0, 255, 10})
	put(odd, 0, []byte("odd"))
	must(get("never") == nil, "nothing is there")
	eventually("list", func() bool {
		pairs, meta, err := kv.List(root, nil)
		must(err == nil && meta.LastIndex > 0, "list: %v", err)
		return len(pairs) == 3
	})
	eventually("keys", func() bool {
		keys, _, err := kv.Keys(root, "/", nil)
		must(err == nil, "keys: %v", err)
		return strings.Join(keys, ",") == root+"a,"+root+"bytes,"+root+"sp ace/"
	})
	// On a condition.
	first := &consul.KVPair{Key: root + "c", Value: []byte("1")}
	done, _, err := kv.CAS(first, nil)
	must(err == nil && done, "cas of nothing: %v", err)
	var next *consul.KVPair
	eventually("cas is read", func() bool { next = get("c"); return next != nil })
	stale := &consul.KVPair{Key: root + "c", Value: []byte("no"), ModifyIndex: next.ModifyIndex - 1}
	done, _, err = kv.CAS(stale, nil)
	must(err == nil && !done, "a stale cas: %v %v", done, err)
	next.Value = []byte("2")
	eventually("cas holds", func() bool {
		done, _, err = kv.CAS(next, nil)
		must(err == nil, "cas: %v", err)
		return done
	})
	eventually("cas is seen", func() bool {
		pair := get("c")
		return pair != nil && string(pair.Value) == "2"
	})
	// Waiting.
	_, meta, err := kv.Get(root+"w", nil)
	must(err == nil, "get: %v", err)
	time.AfterFunc(200*time.Millisecond, func() { put("w", 0, []byte("now")) })
	began := time.Now()
	for {
		options := &consul.QueryOptions{WaitIndex: meta.LastIndex, WaitTime: 10 * time.Second}
		var pair *consul.KVPair
		pair, meta, err = kv.Get(root+"w", options)
		must(err == nil, "wait: %v", err)
		must(time.Since(began) < 5*time.Second, "it was not told in time")
		if pair != nil {
			break
		}
	}
	// Locks are refused at once, in words.
	_, _, err = client.Session().Create(nil, nil)
	must(err != nil && strings.Contains(err.Error(), "501"), "a session: %v", err)
	_, _, err = kv.Acquire(&consul.KVPair{Key: root + "l", Session: "s"}, nil)
	must(err != nil && strings.Contains(err.Error(), "501"), "a lock: %v", err)
	leader, err := client.Status().Leader()
	must(err == nil && strings.Contains(leader, ":"), "leader: %v %v", leader, err)
	eventually("members", func() bool {
		rows, _, err := client.Health().Service("gossipykv", "", true, nil)
		must(err == nil, "members: %v", err)
		return len(rows) == 2
	})
	_, err = kv.Delete(root+"a", nil)
	must(err == nil, "delete: %v", err)
	eventually("delete", func() bool { return get("a") == nil })
	_, err = kv.DeleteTree(root, nil)
	must(err == nil, "delete all: %v", err)
	eventually("delete all", func() bool {
		pairs, _, err := kv.List(root, nil)
		must(err == nil, "list: %v", err)
		return len(pairs) == 0
	})
}

func main() {
	for n, at := range os.Args[1:] {
		check(at, fmt.Sprintf("go%d/", n))
	}
	fmt.Println("checked")
}
