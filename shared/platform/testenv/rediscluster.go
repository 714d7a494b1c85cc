package testenv

import (
	"fmt"
	"net"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"
)

// RedisCluster is a Redis cluster of servers of their own.
type RedisCluster struct {
	Nodes []*RedisServer // masters, the slots divided evenly among them in this order

	t testing.TB
}

// redisSlots is how many slots every cluster has.
const redisSlots = 16384

// StartRedisCluster starts a cluster of so many masters.
func StartRedisCluster(t testing.TB, masters int, options ...string) *RedisCluster {
	t.Helper()
	c := &RedisCluster{t: t}
	for range masters {
		c.Nodes = append(c.Nodes, c.node(options...))
	}
	for i, n := range c.Nodes {
		from, to := i*redisSlots/masters, (i+1)*redisSlots/masters-1
		c.Do(n, "CLUSTER", "ADDSLOTSRANGE", strconv.Itoa(from), strconv.Itoa(to))
		// Else all begin with the same epoch, and sort that out later.
		c.Do(n, "CLUSTER", "SET-CONFIG-EPOCH", strconv.Itoa(i+1))
	}
	for _, n := range c.Nodes[1:] {
		c.meet(n)
	}
	for _, n := range c.Nodes {
		c.await(n, "cluster_state:ok", "CLUSTER", "INFO")
		c.await(n, fmt.Sprintf("cluster_known_nodes:%d\r", masters), "CLUSTER", "INFO")
	}
	return c
}

func (c *RedisCluster) node(options ...string) *RedisServer {
	c.t.Helper()
	// The usual port of the bus, 10000 above the other, may not exist or be taken.
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		c.t.Fatal(err)
	}
	_, bus, _ := net.SplitHostPort(l.Addr().String())
	_ = l.Close()
	return StartRedis(c.t, append([]string{"--cluster-enabled", "yes", "--cluster-config-file", "nodes", "--cluster-port", bus,
		"--cluster-node-timeout", "5000", "--cluster-announce-ip", "127.0.0.1", "--repl-diskless-sync-delay", "0"}, options...)...)
}

// meet has the first server make another one's acquaintance.
func (c *RedisCluster) meet(n *RedisServer) {
	c.t.Helper()
	_, port, _ := net.SplitHostPort(n.Addr)
	bus := c.Do(n, "CONFIG", "GET", "cluster-port")
	c.Do(c.Nodes[0], "CLUSTER", "MEET", "127.0.0.1", port, bus[strings.LastIndexByte(bus, '\n')+1:])
}

// AddReplica starts one more server, a copy of a master, and returns when it is one.
func (c *RedisCluster) AddReplica(master *RedisServer) *RedisServer {
	c.t.Helper()
	n := c.node()
	c.meet(n)
	id := c.ID(master)
	c.await(n, id, "CLUSTER", "NODES")
	c.await(n, "OK", "CLUSTER", "REPLICATE", id)
	c.await(n, "master_link_status:up", "INFO", "replication")
	for _, known := range c.Nodes {
		c.await(known, c.ID(n), "CLUSTER", "NODES")
	}
	return n
}

// ID is what the cluster calls a server.
func (c *RedisCluster) ID(n *RedisServer) string {
	c.t.Helper()
	return c.Do(n, "CLUSTER", "MYID")
}

// Owner is the master that has a key now.
func (c *RedisCluster) Owner(key string) *RedisServer {
	c.t.Helper()
	for _, n := range c.Nodes {
		if said := c.try(n, "EXISTS", key); said == "0" || said == "1" {
			return n
		}
	}
	c.t.Fatalf("no server of the cluster has %s", key)
	return nil
}

// Move gives a key's slot to another master, with the key, as an operator does.
// During does what is to happen when the slot is on its way and the key is gone.
func (c *RedisCluster) Move(key string, to *RedisServer, during func()) {
	c.t.Helper()
	from := c.Owner(key)
	slot := c.Do(from, "CLUSTER", "KEYSLOT", key)
	host, port, _ := net.SplitHostPort(to.Addr)
	c.Do(to, "CLUSTER", "SETSLOT", slot, "IMPORTING", c.ID(from))
	c.Do(from, "CLUSTER", "SETSLOT", slot, "MIGRATING", c.ID(to))
	c.Do(from, "MIGRATE", host, port, key, "0", "10000")
	during()
	c.Do(to, "CLUSTER", "SETSLOT", slot, "NODE", c.ID(to))
	c.Do(from, "CLUSTER", "SETSLOT", slot, "NODE", c.ID(to))
}

// Do has a server execute a command and returns its answer.
func (c *RedisCluster) Do(n *RedisServer, command ...string) string {
	c.t.Helper()
	_, port, _ := net.SplitHostPort(n.Addr)
	// -e: an error is one of the command too.
	said, err := exec.Command("redis-cli", append([]string{"-e", "-p", port}, command...)...).CombinedOutput()
	if err != nil {
		c.t.Fatalf("redis-cli %v: %v\n%s", command, err, said)
	}
	return strings.TrimSuffix(string(said), "\n")
}

func (c *RedisCluster) try(n *RedisServer, command ...string) string {
	c.t.Helper()
	_, port, _ := net.SplitHostPort(n.Addr)
	said, err := exec.Command("redis-cli", append([]string{"-p", port}, command...)...).Output()
	if err != nil && len(said) == 0 {
		c.t.Fatalf("redis-cli %v: %v", command, err)
	}
	return strings.TrimSuffix(string(said), "\n")
}

// await returns when a server's answer holds a text.
func (c *RedisCluster) await(n *RedisServer, text string, command ...string) {
	c.t.Helper()
	said := ""
	for end := time.Now().Add(30 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if said = c.try(n, command...) + "\r"; strings.Contains(said, text) {
			return
		}
	}
	c.t.Fatalf("%v never said %q: %s", command, text, said)
}
