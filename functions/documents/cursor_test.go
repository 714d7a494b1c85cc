package documents

import (
	"encoding/base64"
	"errors"
	"math"
	"testing"
	"time"

	"github.com/defenseunicorns/peat-gateway/shared/platform/fault"
	"github.com/defenseunicorns/peat-gateway/shared/tenant"
)

// The text of a cursor is with receivers for as long as they like. A release that
// reads it otherwise loses their places.
func TestACursorsTextStays(t *testing.T) {
	f := tenant.Formation{Org: "acme", App: "logistics", MeshID: "ABCD1234", CreatedAt: time.Unix(1_770_000_000, 0)}
	const want = "AWeS4Y1c3RfnAAAAAAAAEjQ"
	if got := (cursor{fingerprintOf(f), 0x1234}).String(); got != want {
		t.Errorf("%s, want %s", got, want)
	}
	if got, err := parseCursor(want); err != nil || got.position != 0x1234 {
		t.Errorf("%+v %v", got, err)
	}
}

func TestWhatTellsFormationsApart(t *testing.T) {
	f := tenant.Formation{Org: "acme", App: "logistics", MeshID: "ABCD1234", CreatedAt: start}
	same, org, app, mesh, later := f, f, f, f, f
	same.State, same.Policy = tenant.Suspended, tenant.Open
	org.Org, app.App, mesh.MeshID, later.CreatedAt = "acmel", "ogistics", "ABCD1235", start.Add(time.Microsecond)
	if fingerprintOf(f) != fingerprintOf(same) {
		t.Error("a suspended formation is another one")
	}
	both := f
	both.Org, both.App = "acmel", "ogistics"
	for name, other := range map[string]tenant.Formation{"organization": org, "name": app, "mesh": mesh, "time": later, "where names part": both} {
		if fingerprintOf(f) == fingerprintOf(other) {
			t.Errorf("another %s makes no difference", name)
		}
	}
}

func FuzzCursor(f *testing.F) {
	f.Add(cursor{position: 1}.String())
	f.Add(cursor{fingerprint{1, 2, 3, 4, 5, 6, 7, 8}, math.MaxInt64}.String())
	f.Add(cursor{position: math.MaxUint64}.String())
	f.Add(base64.RawURLEncoding.EncodeToString(make([]byte, cursorBytes)))
	f.Add("beginning")
	f.Add("")
	f.Fuzz(func(t *testing.T, text string) {
		c, err := parseCursor(text)
		switch {
		case err != nil && !errors.Is(err, fault.Malformed):
			t.Errorf("refused with %v", err)
		case err == nil && c.String() != text:
			t.Errorf("%q is read as %q", text, c)
		case err == nil && c.position > math.MaxInt64:
			t.Errorf("position %d", c.position)
		}
	})
}
