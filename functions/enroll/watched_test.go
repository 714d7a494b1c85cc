package enroll_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	member "github.com/defenseunicorns/peat-gateway/shared/node"
	"github.com/defenseunicorns/peat-gateway/shared/platform/env"
)

// watched is a node of package node at the function, on one clock: when it waits, the
// time has passed.
type watched struct {
	*world
	node   *member.Node
	said   strings.Builder
	waited []time.Duration
	shown  int // how many tokens it has shown; each is good once, for an hour
	// meanwhile is what happens while it waits; it may end the watch.
	meanwhile func() error
}

// down is a connection that fails as long as it is set.
type down struct{ is bool }

func (d *down) RoundTrip(r *http.Request) (*http.Response, error) {
	if d.is {
		return nil, errors.New("the line is dead")
	}
	return http.DefaultTransport.RoundTrip(r)
}

func (w *world) member(line *down, id string) *watched {
	w.t.Helper()
	server := httptest.NewServer(w)
	w.t.Cleanup(server.Close)
	client, err := member.NewClient(server.URL, key, line)
	if err != nil {
		w.t.Fatal(err)
	}
	folder, err := member.OpenFolder(filepath.Join(w.t.TempDir(), "node"))
	if err != nil {
		w.t.Fatal(err)
	}
	out := &watched{world: w, meanwhile: func() error { return nil }}
	out.node = &member.Node{
		Client: client, Folder: folder, Key: key, ID: id, MeshID: meshID, Random: func() float64 { return 0.5 }, Now: w.time, Say: &out.said,
		Wait: func(ctx context.Context, d time.Duration) error {
			out.waited = append(out.waited, d)
			w.later(d)
			return errors.Join(ctx.Err(), out.meanwhile())
		},
	}
	out.node.Show = member.ShowFunc(func(context.Context, string) (member.Shown, error) {
		out.shown++
		return member.Shown{Token: env.NewSecret(w.entry(fmt.Sprint(id, "-", out.shown), 1))}, nil
	})
	return out
}

// errEnough ends a watch from outside.
var errEnough = errors.New("errEnough")

// watch follows the node until it has had so many certificates.
func (w *watched) watch(most int) (serials []string, err error) {
	err = w.node.Watch(w.t.Context(), func(c member.Certificate) error {
		if serials = append(serials, c.Serial); len(serials) == most {
			return errEnough
		}
		return nil
	})
	return serials, err
}

func TestNodeRenewsByItself(t *testing.T) {
	w := newWorld(t)
	n := w.member(&down{}, "truck-7")
	serials, err := n.watch(5)
	if !errors.Is(err, errEnough) {
		t.Fatalf("%v\n%s", err, &n.said)
	}
	for i, serial := range serials {
		c := w.get(serial)
		if i == 0 {
			continue
		}
		before := w.get(serials[i-1])
		if c.Replaces != before.Serial || c.IssuedAt.Before(before.RenewAfter) || !c.IssuedAt.Before(before.ExpiresAt) {
			t.Errorf("certificate %d replaces %q at %s; the one before could be renewed from %s to %s", i, c.Replaces, c.IssuedAt, before.RenewAfter, before.ExpiresAt)
		}
	}
	w.trusted(node{id: "truck-7", private: n.key()}, w.get(serials[4]).Certificate)
	if n.shown != 1 {
		t.Errorf("it enrolled %d times", n.shown)
	}
}

func (w *watched) key() []byte {
	key, err := w.node.Folder.NodeKey()
	if err != nil {
		w.t.Fatal(err)
	}
	return key
}

// TestNodeOutlives is about what may come between a node and its next certificate.
func TestNodeOutlives(t *testing.T) {
	for name, tc := range map[string]struct {
		token    bool
		happens  func(w *watched, line *down) // once it has its first certificate
		mends    func(w *watched, line *down) // an hour after it would have renewed
		refused  bool
		enrolled int // how often it showed a token
		says     string
	}{
		"a gateway that is away when it is time": {
			happens: func(_ *watched, line *down) { line.is = true }, mends: func(_ *watched, line *down) { line.is = false },
			enrolled: 1, says: "the line is dead",
		},
		"a formation that is suspended for a while": {
			happens: func(w *watched, _ *down) { w.suspend() }, mends: func(w *watched, _ *down) { w.alter(`UPDATE formations SET state = 'active'`) },
			enrolled: 1, says: "suspended",
		},
		"its certificate, if it can show something": {
			token: true, happens: func(_ *watched, line *down) { line.is = true },
			mends:    func(w *watched, line *down) { w.later(24 * time.Hour); line.is = false },
			enrolled: 2, says: "the line is dead",
		},
		"not that it was revoked": {
			token: true, happens: func(w *watched, _ *down) {
				w.do("POST", base+"/certificates/"+w.get1()+"/revoke", map[string]any{"reason": "device_lost"}, 200)
			},
			refused: true, enrolled: 2, says: "the node needs a new key",
		},
	} {
		t.Run(name, func(t *testing.T) {
			w, line := newWorld(t), &down{}
			n := w.member(line, "truck-7")
			first, err := n.node.Ready(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if !tc.token {
				n.node.Show = nil
			}
			tc.happens(n, line)
			n.meanwhile = func() error {
				if mend := tc.mends; mend != nil && w.time().After(first.RenewAfter.Add(time.Hour)) {
					tc.mends = nil
					mend(n, line)
				}
				return nil
			}
			serials, err := n.watch(2)
			if tc.refused != errors.Is(err, member.ErrRefused) || !tc.refused && !errors.Is(err, errEnough) {
				t.Errorf("it ends with %v\n%s", err, &n.said)
			}
			if !tc.refused && (len(serials) != 2 || serials[0] == serials[1]) {
				t.Errorf("its certificates are %q", serials)
			}
			if !strings.Contains(n.said.String()+fmt.Sprint(err), tc.says) || n.shown != tc.enrolled {
				t.Errorf("it enrolled %d times, and said:\n%s", n.shown, &n.said)
			}
			// However long it lasts, nobody is asked all the time, and nobody waits for ever.
			for i, d := range n.waited {
				if d <= 0 || d > 5*time.Minute+2*time.Second {
					t.Errorf("wait %d is of %s", i, d)
				}
			}
		})
	}
}

// get1 is the serial of the only certificate there is.
func (w *world) get1() string {
	w.t.Helper()
	items := parse[struct {
		Items []certificate `json:"items"`
	}](w.t, w.do("GET", base+"/certificates", nil, 200)).Items
	if len(items) != 1 {
		w.t.Fatalf("%d certificates", len(items))
	}
	return items[0].Serial
}

// TestNodeWaitsForAnAdministrator: it asks until somebody has decided, also after it
// was started again, and shows nothing twice.
func TestNodeWaitsForAnAdministrator(t *testing.T) {
	for name, tc := range map[string]struct {
		decide  string
		refused bool
		says    string
	}{
		"who approves": {"approve", false, "waiting for an administrator"},
		"who denies":   {"deny", true, `an administrator has denied the enrollment: "seen at the gate"`},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t).strict()
			n := w.member(&down{}, "truck-7")
			n.meanwhile = func() error {
				if len(n.waited) < 3 {
					return nil
				}
				return errEnough
			}
			if _, err := n.node.Ready(t.Context()); !errors.Is(err, errEnough) {
				t.Fatalf("nobody has decided, and it ends with %v", err)
			}
			a, err := n.node.Folder.Application()
			if err != nil || a == nil {
				t.Fatalf("it waits for %v, %v", a, err)
			}
			n.meanwhile = func() error {
				w.decide(waiting{ID: a.ID}, tc.decide, 200)
				return nil
			}
			c, err := n.node.Ready(t.Context())
			if tc.refused != errors.Is(err, member.ErrRefused) || !tc.refused && err != nil {
				t.Fatalf("it ends with %v", err)
			}
			if said := n.said.String() + fmt.Sprint(err); !strings.Contains(said, tc.says) || n.shown != 1 {
				t.Errorf("it showed %d tokens, and said %s", n.shown, said)
			}
			if a, err := n.node.Folder.Application(); a != nil || err != nil {
				t.Errorf("it still waits for %v, %v", a, err)
			}
			if !tc.refused {
				w.trusted(node{id: "truck-7", private: n.key()}, c.Certificate)
			}
		})
	}
}

func TestNodeIsNotTakenIn(t *testing.T) {
	w := newWorld(t)
	other := newNode("other", 9)
	for name, tc := range map[string]struct {
		change func(*member.Node)
		want   string
	}{
		"by another mesh":      {func(n *member.Node) { n.MeshID = "00000000" }, "has the mesh id"},
		"by another authority": {func(n *member.Node) { n.Authorities = append(n.Authorities, other.public()) }, "something else than was asked for"},
		"for nothing":          {func(n *member.Node) { n.Show = nil }, "nothing to get one with"},
	} {
		t.Run(name, func(t *testing.T) {
			n := w.member(&down{}, "truck-"+strings.ReplaceAll(name, " ", "-")).node
			tc.change(n)
			if _, err := n.Ready(t.Context()); err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("%v", err)
			}
			if kept, err := n.Folder.Certificate(); kept != nil || err != nil {
				t.Errorf("it kept %v, %v", cmp.Diff(nil, kept), err)
			}
		})
	}
}
