package redis

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/redis/go-redis/v9"

	"github.com/defenseunicorns/peat-gateway/shared/driver"
)

// Assess looks at the server that answers first; of a cluster that is one of many.
func (d *redisStream) Assess(ctx context.Context) (driver.Durability, error) {
	link, err := d.reach(ctx, nil, "")
	if err != nil {
		return driver.Durability{}, errors.New(d.describe(err))
	}
	defer d.give(link)
	stop := context.AfterFunc(ctx, link.abort)
	defer stop()
	limited, cancel := context.WithTimeout(ctx, d.limit)
	defer cancel()
	out := grade(d.config, d.look(limited, link))
	if d.config.Cluster {
		out.Reasons = append(out.Reasons, "only one server of the cluster was looked at")
	}
	if secure, ok := link.secure.(*tls.Conn); ok {
		d.config.TLS.Note(&out, secure.ConnectionState(), d.now())
	}
	return out, nil
}

// keeping is what a server tells of how it keeps things; what it does not tell is
// not in it.
type keeping map[string]string

// look asks for settings and, since many servers do not let everybody ask, takes
// what INFO tells as well.
func (d *redisStream) look(ctx context.Context, link *redisLink) keeping {
	k := keeping{}
	for _, section := range []string{"persistence", "replication", "memory"} {
		text, err := link.conn.Info(ctx, section).Result()
		if err != nil {
			continue
		}
		for line := range strings.SplitSeq(text, "\r\n") {
			if name, value, found := strings.Cut(line, ":"); found {
				k[strings.ReplaceAll(name, "_", "-")] = value
			}
		}
	}
	for info, setting := range map[string]string{"aof-enabled": "appendonly"} {
		if v, ok := k[info]; ok {
			k[setting] = map[string]string{"1": "yes", "0": "no"}[v]
		}
	}
	for _, name := range []string{"appendonly", "appendfsync", "save", "min-replicas-to-write", "maxmemory", "maxmemory-policy"} {
		if set, err := link.conn.ConfigGet(ctx, name).Result(); err == nil {
			if v, ok := set[name]; ok {
				k[name] = v
			}
		}
	}
	if d.config.Wait != nil && d.config.Wait.LocalFsync {
		// With no replica and nothing written it answers at once.
		err := link.conn.Do(ctx, "WAITAOF", 0, 0, 1).Err()
		if redis.HasErrorPrefix(err, "unknown command") {
			k["waitaof"] = "no"
		}
	}
	return k
}

// number is a setting that is one; ok is false if it was not told.
func (k keeping) number(name string) (n int64, ok bool) {
	n, err := strconv.ParseInt(k[name], 10, 64)
	return n, err == nil
}

// grade says how well a server keeps what it has acknowledged to this sink.
func grade(c redisConfig, k keeping) driver.Durability {
	d := driver.Durability{Grade: "A"}
	wait := redisWait{}
	if c.Wait != nil {
		wait = *c.Wait
	}
	gradeDisk(&d, wait, k)
	gradeReplicas(&d, wait, k)
	policy, policed := k["maxmemory-policy"]
	most, limited := k.number("maxmemory")
	switch {
	case policed && strings.HasPrefix(policy, "allkeys-") && (most > 0 || !limited):
		d.Worst("E", "when memory is short the server evicts whole streams (maxmemory-policy "+policy+"); set noeviction")
	case !policed:
		d.Worst("B", "the server does not tell its maxmemory-policy: with an allkeys one it would evict whole streams")
	}
	if c.MaxLen > 0 {
		d.Worst("C", fmt.Sprintf("beyond about %d events the oldest are dropped, read or not (maxlen)", c.MaxLen))
	}
	return d
}

func gradeDisk(d *driver.Durability, wait redisWait, k keeping) {
	switch only, fsync := k["appendonly"], k["appendfsync"]; {
	case only == "no" && k["save"] == "":
		if _, told := k["save"]; told {
			d.Worst("F", "the server writes nothing to a disk (appendonly no, no save): a restart loses everything")
			break
		}
		d.Worst("E", "the server keeps no log on its disk (appendonly no): a crash loses what came since its last snapshot, if it makes any")
	case only == "no":
		d.Worst("E", "the server writes snapshots only (appendonly no, save "+k["save"]+"): a crash loses what came since the last one")
	case k["waitaof"] == "no":
		d.Worst("F", errNoWaitAOF.Error()+"; nothing will count as delivered")
	case wait.LocalFsync, fsync == "always":
	case only == "":
		d.Worst("D", "the server does not tell whether it keeps a log on its disk (appendonly)")
	case fsync == "everysec":
		d.Worst("C", "the server writes to its disk once a second (appendfsync everysec): a crash of the machine loses up to two seconds of acknowledged events; set always, or wait.local_fsync")
	case fsync == "no":
		d.Worst("D", "the server leaves it to the system when to write to the disk (appendfsync no): a crash of the machine loses what was acknowledged in the last half minute or so")
	default:
		d.Worst("C", "the server does not tell its appendfsync, which is everysec unless set: a crash of the machine may lose acknowledged events")
	}
}

func gradeReplicas(d *driver.Durability, wait redisWait, k keeping) {
	have, told := k.number("connected-slaves")
	switch {
	case !told:
		d.Worst("B", "the server does not tell how many replicas it has")
	case have < int64(wait.Replicas):
		d.Worst("F", fmt.Sprintf("wait asks for %d replicas and %d are there: nothing counts as delivered", wait.Replicas, have))
	case have == 0:
		d.Worst("B", "the server has no replica: the loss of its disk loses the stream")
	}
	if wait.Replicas == 0 && (have > 0 || !told) {
		d.Worst("B", "an event counts before replicas have it: a failover can lose it; set wait.replicas")
		if least, ok := k.number("min-replicas-to-write"); ok && least == 0 {
			d.Worst("C", "a server that is cut off from its replicas goes on acknowledging what a failover will lose (min-replicas-to-write 0)")
		}
	}
}
