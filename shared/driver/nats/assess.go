package nats

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/defenseunicorns/peat-gateway/shared/driver"
)

// Assess looks at the stream, or at what it would be if the sink made it.
func (d *natsStream) Assess(ctx context.Context) (driver.Durability, error) {
	link, err := d.dial(ctx)
	if err != nil {
		return driver.Durability{}, errors.New(describe(err))
	}
	defer link.close()
	limited, cancel := context.WithTimeout(ctx, d.limit)
	defer cancel()
	config := d.streamConfig()
	made := false
	switch stream, err := link.js.Stream(limited, d.config.Stream); {
	case err == nil:
		config, made = stream.CachedInfo().Config, true
		if why := unfit(config, d.ours()); why != "" {
			return driver.Durability{}, fmt.Errorf("stream %s is there and %s", d.config.Stream, why)
		}
	case !errors.Is(err, jetstream.ErrStreamNotFound):
		return driver.Durability{}, errors.New(describe(err))
	}
	out := grade(config, syncOf(limited, link.conn))
	if !made {
		out.Reasons = append(out.Reasons, "the stream is not there yet; it will be made with the first event")
	}
	if state, err := link.conn.TLSConnectionState(); err == nil {
		d.config.TLS.Note(&out, state, d.now())
	}
	return out, nil
}

// syncing is when a server writes what it acknowledged through to its disk.
type syncing struct {
	known    bool
	always   bool
	interval time.Duration
}

// grade says how well a stream keeps what it has acknowledged.
//
// Jepsen's analysis of NATS 2.12.1 lost acknowledged messages: by default a server
// acknowledges what is in the system's cache and writes it to the disk every two
// minutes, so one crash of a machine loses up to that, and crashes of several can
// lose it from a replicated stream too.
func grade(c jetstream.StreamConfig, s syncing) driver.Durability {
	d := driver.Durability{Grade: "A"}
	replicas, memory := max(c.Replicas, 1), c.Storage == jetstream.MemoryStorage
	switch {
	case memory && replicas == 1:
		d.Worst("F", "the stream is in the memory of one server: a restart loses it")
	case memory:
		d.Worst("D", fmt.Sprintf("the stream is in memory only, on %d servers: it is lost when most of them restart", replicas))
	case replicas == 1:
		d.Worst("B", "the stream is on one server only (replicas: 1): the loss of its disk loses the stream")
	case replicas == 2:
		d.Worst("B", "two replicas survive the loss of a disk, but the stream takes nothing while one is away; use three")
	}
	if !memory && !s.always {
		when := "the server does not tell its sync_interval, which is two minutes unless set"
		if s.known {
			when = fmt.Sprintf("the server writes acknowledged events to its disk only every %s (sync_interval)", s.interval)
		}
		if replicas == 1 {
			d.Worst("C", when+": a crash of the machine loses acknowledged events, as Jepsen showed for NATS 2.12.1; set sync_interval: always")
		} else {
			d.Worst("B", when+": crashes of several machines at once can lose acknowledged events, as Jepsen showed for NATS 2.12.1; set sync_interval: always")
		}
	}
	gradeLimits(&d, c)
	return d
}

// gradeLimits adds what a stream drops although nobody has read it.
func gradeLimits(d *driver.Durability, c jetstream.StreamConfig) {
	if c.MaxAge > 0 {
		d.Worst("B", fmt.Sprintf("events are dropped after %s, read or not (max_age)", c.MaxAge))
	}
	if c.Discard != jetstream.DiscardNew {
		if c.MaxBytes > 0 {
			d.Worst("C", fmt.Sprintf("beyond %d bytes the oldest events are dropped, read or not (max_bytes, discard: old)", c.MaxBytes))
		}
		if c.MaxMsgs > 0 {
			d.Worst("C", fmt.Sprintf("beyond %d events the oldest are dropped, read or not (max_msgs, discard: old)", c.MaxMsgs))
		}
	}
	if c.MaxMsgsPerSubject > 0 && !c.DiscardNewPerSubject {
		d.Worst("D", fmt.Sprintf("of each document only the last %d events are kept (max_msgs_per_subject)", c.MaxMsgsPerSubject))
	}
	if c.Duplicates < ladderStep {
		// Nothing is lost by that, so no grade follows.
		d.Reasons = append(d.Reasons, fmt.Sprintf("the stream knows a repeat for %s (duplicate_window), and an event may be sent again after %s: receivers tell by its id", c.Duplicates, ladderStep))
	}
}

// syncOf asks the server for its settings. Only a server whose operator has let this
// account ask (system.JSZ as an imported service) answers; others say at once that
// nobody is there.
func syncOf(ctx context.Context, conn *nats.Conn) syncing {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	m, err := conn.RequestWithContext(ctx, "$SYS.REQ.SERVER."+conn.ConnectedServerId()+".JSZ", []byte("{}"))
	if err != nil {
		return syncing{}
	}
	var answer struct {
		Data struct {
			Config *struct {
				Interval time.Duration `json:"sync_interval"`
				Always   bool          `json:"sync_always"`
			} `json:"config"`
		} `json:"data"`
	}
	if json.Unmarshal(m.Data, &answer) != nil || answer.Data.Config == nil {
		return syncing{}
	}
	c := answer.Data.Config
	return syncing{known: c.Always || c.Interval > 0, always: c.Always, interval: c.Interval}
}
