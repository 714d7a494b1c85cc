package file

import (
	"bytes"
	"encoding/json"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/defenseunicorns/peat-gateway/shared/driver"
	"github.com/defenseunicorns/peat-gateway/shared/driver/drivertest"
)

func noNetwork() map[drivertest.Promise]string {
	const (
		anything = "Nobody is there who would refuse an event."
		writes   = "A write is over at once or the system's to finish: there is no answer to wait for."
		link     = "There is no connection that could break."
		access   = "There are no credentials."
	)
	return map[drivertest.Promise]string{
		drivertest.StopsBehind: anything, drivertest.RefusesAlone: anything, drivertest.RefusesForGood: anything,
		drivertest.Oversize:  "Events of any size are taken.",
		drivertest.BreaksOff: writes, drivertest.WaitsForSlow: writes, drivertest.GivesUpHanging: writes, drivertest.CloseEnds: writes,
		drivertest.HeedsNotBefore: "A disk does not say when it will have room.", drivertest.SaysUnreachable: link,
		drivertest.SurvivesCut: link, drivertest.SurvivesLostReply: link, drivertest.SurvivesKill: link, drivertest.SurvivesRestart: link,
		drivertest.SaysDenied: access, drivertest.TakesRotation: access, drivertest.KeepsSecrets: access,
		drivertest.Guarded: "No address is connected to.",
	}
}

// read reads lines as a receiver would.
func read(t testing.TB, texts ...[]byte) []drivertest.Received {
	t.Helper()
	var out []drivertest.Received
	for _, text := range texts {
		for line := range bytes.Lines(text) {
			if !bytes.HasSuffix(line, []byte{'\n'}) {
				t.Errorf("a torn line: %.200q", line)
			}
			out = append(out, drivertest.Structured(t, line))
		}
	}
	return out
}

// inOrder is what the full files and the last one hold.
func inOrder(t testing.TB, path string) [][]byte {
	t.Helper()
	full, err := filepath.Glob(path + ".*")
	if err != nil {
		t.Fatal(err)
	}
	var out [][]byte
	for _, name := range append(full, path) {
		text, err := os.ReadFile(name)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			t.Fatal(err)
		}
		out = append(out, text)
	}
	return out
}

func inFile(kind, options string) func(t *testing.T) drivertest.Harness {
	return func(t *testing.T) drivertest.Harness {
		dir := t.TempDir()
		path := filepath.Join(dir, "acme", "changes.ndjson")
		cannot := noNetwork()
		cannot[drivertest.DropsRepeats] = "Nothing in it remembers ids; receivers tell repeats by them."
		return drivertest.Harness{
			Kind: kind,
			Open: func(t testing.TB, o drivertest.Options) driver.Driver {
				return openByConfig(t, dir, `{"path":"acme/changes.ndjson"`+options+`}`, o)
			},
			Received: func(t testing.TB) []drivertest.Received { return read(t, inOrder(t, path)...) },
			Cannot:   cannot,
			// Somebody has put a folder in the file's place.
			Busy: func(busy bool) {
				var err error
				if busy {
					if err = os.Rename(path, path+"-away"); err == nil || errors.Is(err, os.ErrNotExist) {
						err = os.MkdirAll(path, 0o750)
					}
				} else {
					if err = os.Remove(path); err == nil {
						if err = os.Rename(path+"-away", path); errors.Is(err, os.ErrNotExist) {
							err = nil
						}
					}
				}
				if err != nil {
					t.Fatal(err)
				}
			},
		}
	}
}

func openByConfig(t testing.TB, dir, config string, o drivertest.Options) driver.Driver {
	t.Helper()
	s := o.Settings()
	s.SinkDir = dir
	made, err := Parse(json.RawMessage(config), nil, s)
	if err != nil {
		t.Fatal(err)
	}
	public, _ := json.Marshal(made.Public)
	d, err := Open(driver.Opening{Org: "acme", Sink: "s", Config: public, Settings: s})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.Close() })
	return d
}

func TestFileKeepsItsPromises(t *testing.T) { drivertest.Run(t, inFile("file", "")) }

func TestRotatingFileKeepsItsPromises(t *testing.T) {
	drivertest.Run(t, inFile("", `,"rotate":{"max_bytes":65536},"fsync":"interval","fsync_interval_ms":1`))
}

// pipe is an output that may be full.
type pipe struct {
	mu   sync.Mutex
	text bytes.Buffer
	room int // how many bytes it still takes; below 0: any
}

func (p *pipe) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.room < 0 || len(b) <= p.room {
		return p.text.Write(b)
	}
	n, _ := p.text.Write(b[:p.room])
	p.room -= n
	return n, errors.New("no space left on device")
}

func (p *pipe) fits(room int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.room = room
}

func (p *pipe) take() []byte {
	p.mu.Lock()
	defer p.mu.Unlock()
	return bytes.Clone(p.text.Bytes())
}

func TestStdoutKeepsItsPromises(t *testing.T) {
	drivertest.Run(t, func(t *testing.T) drivertest.Harness {
		out := &pipe{room: -1}
		shared := NewOutput(out) // by all sinks of the process
		cannot := maps.Clone(noNetwork())
		cannot[drivertest.DropsRepeats] = "Nothing in it remembers ids; receivers tell repeats by them."
		return drivertest.Harness{
			Kind: "stdout",
			Open: func(t testing.TB, o drivertest.Options) driver.Driver {
				s := o.Settings()
				s.Stdout = shared
				d, err := OpenStdout(driver.Opening{Org: "acme", Sink: "s", Settings: s})
				if err != nil {
					t.Fatal(err)
				}
				return d
			},
			Received: func(t testing.TB) []drivertest.Received { return read(t, out.take()) },
			Cannot:   cannot,
			Busy: func(busy bool) {
				room := -1
				if busy {
					room = 0
				}
				out.fits(room)
			},
		}
	})
}
