package redis

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/defenseunicorns/peat-gateway/shared/driver"
	"github.com/defenseunicorns/peat-gateway/shared/driver/drivertest"
)

// scripted is a server that says what it is told to, for answers that those of a
// distribution do not give. It answers OK to everything else.
func scripted(t *testing.T, answers map[string]string) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer func() { _ = conn.Close() }()
				for in := bufio.NewReader(conn); ; {
					command, err := readCommand(in)
					if err != nil {
						return
					}
					said, ok := answers[strings.ToUpper(command[0])]
					if !ok {
						said = "+OK\r\n"
					}
					said = strings.ReplaceAll(said, "the server's own address", l.Addr().String())
					if _, err := io.WriteString(conn, said); err != nil {
						return
					}
				}
			})
		}
	})
	t.Cleanup(func() { _ = l.Close(); wg.Wait() })
	return l.Addr().String()
}

// noHello is what a server says that speaks only the first protocol.
const noHello = "-ERR unknown command 'HELLO'\r\n"

func readCommand(in *bufio.Reader) ([]string, error) {
	number := func(mark byte) (int, error) {
		line, err := in.ReadString('\n')
		if err != nil || line[0] != mark {
			return 0, fmt.Errorf("%q %w", line, err)
		}
		return strconv.Atoi(strings.TrimSpace(line[1:]))
	}
	n, err := number('*')
	if err != nil {
		return nil, err
	}
	var out []string
	for range n {
		size, err := number('$')
		if err != nil {
			return nil, err
		}
		text := make([]byte, size+2)
		if _, err := io.ReadFull(in, text); err != nil {
			return nil, err
		}
		out = append(out, string(text[:size]))
	}
	return out, nil
}

func TestRedisReadsTheAnswerOfWaitingForTheDisk(t *testing.T) {
	for name, tc := range map[string]struct {
		answer, reason string
	}{
		"its disk and a replica's":     {"*2\r\n:1\r\n:1\r\n", ""},
		"its disk and two replicas'":   {"*2\r\n:1\r\n:2\r\n", ""},
		"its disk only":                {"*2\r\n:1\r\n:0\r\n", "too few replicas have the events on their disks: 0 of 1"},
		"a replica's only":             {"*2\r\n:0\r\n:1\r\n", "disk did not have the events"},
		"there is no log on its disk":  {"-ERR WAITAOF cannot be used when numlocal is set but appendonly is disabled.\r\n", "appendonly is disabled"},
		"it does not know the command": {"-ERR unknown command 'WAITAOF', with args beginning with: '1'\r\n", "Redis 7.2"},
		"something else":               {"*1\r\n:1\r\n", "is none"},
	} {
		t.Run(name, func(t *testing.T) {
			addr := scripted(t, map[string]string{
				"HELLO": noHello, "PING": "+PONG\r\n", "CONFIG": "*0\r\n", "XADD": "+QUEUED\r\n", "EXEC": "*1\r\n$3\r\n1-1\r\n", "WAITAOF": tc.answer,
			})
			outs := redisAt(t, addr, `,"wait":{"local_fsync":true,"replicas":1}`).Deliver(t.Context(), drivertest.Events("a/1"), drivertest.Soon())
			if tc.reason != "" {
				wantUnreachable(t, outs, tc.reason)
				return
			}
			drivertest.WantDelivered(t, outs)
		})
	}
}

// A cluster that never says the same twice does not hold us for good.
func TestRedisClusterToAndFro(t *testing.T) {
	const here = "the server's own address"
	for answer, reason := range map[string]string{
		"-MOVED 1 " + here + "\r\n": "to and fro", "-ASK 1 " + here + "\r\n": "to and fro", "-MOVED 1 ?:1\r\n": "no server of the cluster says",
		"-CLUSTERDOWN Hash slot not served\r\n": "CLUSTERDOWN", "-TRYAGAIN later\r\n": "TRYAGAIN",
	} {
		addr := scripted(t, map[string]string{
			"HELLO": noHello, "PING": "+PONG\r\n", "CONFIG": "*0\r\n", "XADD": answer, "EXEC": "-EXECABORT Transaction discarded because of previous errors.\r\n",
		})
		d := openTestRedis(t, `{"cluster":true,"url":"redis://`+addr+`"}`, driver.Settings{AllowPrivate: drivertest.Loopback})
		outs := d.Deliver(t.Context(), drivertest.Events("a/1", "a/2"), drivertest.Soon())
		wantUnreachable(t, outs, reason)
		if strings.Contains(outs[0].Reason, addr) {
			t.Error(outs[0].Reason)
		}
	}
}
