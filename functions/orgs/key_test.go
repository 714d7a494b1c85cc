package orgs_test

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/defenseunicorns/peat-gateway/functions/orgs"
	"github.com/defenseunicorns/peat-gateway/shared/envelope"
	"github.com/defenseunicorns/peat-gateway/shared/keyring"
	"github.com/defenseunicorns/peat-gateway/shared/platform/goldentest"
	"github.com/defenseunicorns/peat-gateway/shared/store"
	"github.com/defenseunicorns/peat-gateway/shared/tenant"
)

// theirs is the key of a customer, in a service that answers as told.
type theirs struct {
	*envelope.Local
	says atomic.Pointer[error]
}

func (*theirs) KeyID() string { return "vault:transit/org-acme" }

func (k *theirs) Wrap(ctx context.Context, rec envelope.Record, dek []byte) ([]byte, error) {
	if err := k.says.Load(); err != nil && *err != errWrong {
		return nil, *err
	}
	return k.Local.Wrap(ctx, rec, dek)
}

func (k *theirs) Unwrap(ctx context.Context, rec envelope.Record, wrapped []byte) ([]byte, error) {
	if err := k.says.Load(); err != nil && *err == errWrong {
		return make([]byte, 32), nil
	} else if err != nil {
		return nil, *err
	}
	return k.Local.Unwrap(ctx, rec, wrapped)
}

func (k *theirs) will(err error) { k.says.Store(&err) }

// keyed is a world where an organization may have vault:transit/org-<its name>.
func keyed(t *testing.T) (*world, *theirs) {
	t.Helper()
	local := func(n byte) *envelope.Local {
		l, err := envelope.NewLocal(envelope.NewKEK([32]byte{n}))
		if err != nil {
			t.Fatal(err)
		}
		return l
	}
	own, customer := local(1), &theirs{Local: local(2)}
	allowance, err := keyring.ParseAllowance("vault:transit/org-{org}")
	if err != nil {
		t.Fatal(err)
	}
	w := newWorld(t, func(d *orgs.Deps) {
		st := d.Store
		d.Keys = keyring.New(keyring.Deps{
			Default: own.KeyID(), Allowed: allowance.With(own.KeyID()).Permits,
			Provider: func(id string) (envelope.KeyProvider, error) {
				switch id {
				case own.KeyID():
					return own, nil
				case customer.KeyID():
					return customer, nil
				}
				return nil, errors.New("not here")
			},
			KeyOf: func(ctx context.Context, org tenant.OrgID) (string, error) {
				id, _, err := st.OrgKey(ctx, org)
				return id, err
			},
			Root: st.Root,
			Mark: func(ctx context.Context, key tenant.Key, shut bool) error {
				at := time.Time{}
				if shut {
					at = d.Now()
				}
				return st.InTx(ctx, func(tx *store.Tx) error { return tx.MarkShut(ctx, key, at) })
			},
		})
	})
	w.org("acme")
	w.org("rival")
	return w, customer
}

func TestAnOrganizationHasAKeyOfItsOwn(t *testing.T) {
	w, customer := keyed(t)
	for _, step := range []struct {
		name, method, path, body string
		status                   int
	}{
		{"key_of_the_gateway", "GET", "/orgs/acme/key", "", 200},
		{"key_of_another", "PUT", "/orgs/rival/key", `{"key_id":"vault:transit/org-acme"}`, 422},
		{"key_not_here", "PUT", "/orgs/rival/key", `{"key_id":"vault:transit/org-rival"}`, 422},
		{"key_set", "PUT", "/orgs/acme/key", `{"key_id":"vault:transit/org-acme"}`, 200},
		{"key_set", "PUT", "/orgs/acme/key", `{"key_id":"vault:transit/org-acme"}`, 200},
		{"key_set", "GET", "/orgs/acme/key", "", 200},
		{"key_of_nobody", "GET", "/orgs/nobody/key", "", 404},
		{"key_of_nobody_set", "PUT", "/orgs/nobody/key", `{"key_id":"vault:transit/org-nobody"}`, 404},
	} {
		goldentest.Check(t, "testdata/"+step.name+".json", goldentest.JSON(t, w.do(step.method, step.path, step.body, step.status)))
	}
	w.formation("acme", "logistics")
	sealed, err := w.store.Genesis(t.Context(), logistics)
	if err != nil {
		t.Fatal(err)
	}
	if h, err := envelope.ReadHeader(sealed); err != nil || h.KeyID != customer.KeyID() {
		t.Errorf("sealed with %q, %v", h.KeyID, err)
	}
	w.do("DELETE", "/orgs/acme/key", "", 204)
	w.do("DELETE", "/orgs/nobody/key", "", 404)
	goldentest.Check(t, "testdata/key_of_the_gateway.json", goldentest.JSON(t, w.do("GET", "/orgs/acme/key", "", 200)))
	acts := w.actions()
	slices.Sort(acts) // they are of one moment
	if diff := cmp.Diff([]string{"formation.create logistics", "org.create acme", "org.key acme", "org.key acme"}, acts); diff != "" {
		t.Error(diff)
	}
}

func TestAKeyIsTriedBeforeItIsSet(t *testing.T) {
	w, customer := keyed(t)
	for name, tc := range map[string]struct {
		says   error
		status int
	}{
		"refuses":             {fmt.Errorf("%w: by 10.1.2.3", envelope.ErrKeyRefused), 422},
		"gives_no_answer":     {fmt.Errorf("%w: 10.1.2.3", envelope.ErrUnavailable), 503},
		"forgets":             {envelope.ErrTampered, 422},
		"says_something_new":  {errors.New("10.1.2.3"), 503},
		"gives_the_wrong_key": {errWrong, 422},
	} {
		t.Run(name, func(t *testing.T) {
			customer.will(tc.says)
			goldentest.Check(t, "testdata/key_that_"+name+".json", goldentest.JSON(t, w.do("PUT", "/orgs/acme/key", `{"key_id":"vault:transit/org-acme"}`, tc.status)))
			if id, _, err := w.store.OrgKey(t.Context(), "acme"); id != "" || err != nil {
				t.Errorf("it was set all the same: %q, %v", id, err)
			}
		})
	}
}

// errWrong makes a key unwrap to something else.
var errWrong = errors.New("wrong")

// TestASealedFormationIsShown: once its root was found not to open, and until it
// opens again. Others show nothing.
func TestASealedFormationIsShown(t *testing.T) {
	w, customer := keyed(t)
	w.do("PUT", "/orgs/acme/key", `{"key_id":"vault:transit/org-acme"}`, 200)
	w.formation("acme", "logistics")
	w.formation("rival", "logistics")
	sign := func() error {
		return w.deps.Keys.Authority(t.Context(), logistics, func(ed25519.PrivateKey) error { return nil })
	}
	shows := func(file string) {
		t.Helper()
		goldentest.Check(t, "testdata/"+file+".json", goldentest.JSON(t, w.do("GET", "/orgs/acme/formations/logistics", "", 200)))
		goldentest.Check(t, "testdata/"+file+"_list.json", goldentest.JSON(t, w.do("GET", "/orgs/acme/formations", "", 200)))
	}
	customer.will(envelope.ErrKeyRefused)
	shows("formation_open") // nobody has tried yet
	if sign() == nil {
		t.Fatal("a revoked key signs")
	}
	shows("formation_sealed")
	goldentest.Check(t, "testdata/formation_of_a_sealed_organization.json", goldentest.JSON(t, w.do("POST", "/orgs/acme/formations", `{"app_id":"medevac"}`, 423)))
	goldentest.Check(t, "testdata/formation_of_the_other.json", goldentest.JSON(t, w.do("GET", "/orgs/rival/formations/logistics", "", 200)))
	w.formation("rival", "medevac")
	customer.says.Store(nil)
	w.do("PUT", "/orgs/acme/key", `{"key_id":"vault:transit/org-acme"}`, 200)
	if err := sign(); err != nil {
		t.Fatal(err)
	}
	shows("formation_open")
}
