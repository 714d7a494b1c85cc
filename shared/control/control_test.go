package control_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/defenseunicorns/peat-gateway/shared/control"
	"github.com/defenseunicorns/peat-gateway/shared/platform/fault"
	"github.com/defenseunicorns/peat-gateway/shared/refusal/refusaltest"
	"github.com/defenseunicorns/peat-gateway/shared/tenant"
)

type in struct{ Subject string }

type out struct {
	App  string `json:"app_id"`
	Kind string
	OK   bool
	Org  string `json:"org_id"`
}

func TestVectorsGatewayCtlSubject(t *testing.T) {
	for _, v := range refusaltest.Vectors[in, out](t, "gateway_ctl_subject") {
		t.Run(v.ID, func(t *testing.T) {
			s, err := control.ParseSubject(v.In.Subject)
			if !v.Out.OK {
				if !errors.Is(err, fault.Invalid) || s != (control.Subject{}) {
					t.Errorf("got %v, %v", s, err)
				}
				return
			}
			// peat-gateway 0.1 has its sentinel for a formation's name; here there is none.
			want := control.Subject{Org: tenant.OrgID(v.Out.Org), App: tenant.AppID(strings.Replace(v.Out.App, "_org", "", 1)), Kind: v.Out.Kind}
			if err != nil || s != want || s.String() != v.In.Subject {
				t.Errorf("got %v, %v", s, err)
			}
		})
	}
}

func TestParseSubjectRefuses(t *testing.T) {
	for name, text := range map[string]string{
		"wildcards for an organization": "*.logistics.ctl.peers.revoke",
		"wildcards for a formation":     "acme.>.ctl.peers.revoke",
		"the sentinel for everything":   "_org._org.ctl.formations.create",
		"a space":                       "acme.logistics.ctl.peers revoke",
		"wildcards for a kind":          "acme.logistics.ctl.peers.*",
		"an empty word":                 "acme.logistics.ctl.peers..revoke",
		"another mark":                  "acme.logistics.CTL.peers.revoke",
		"too much":                      "acme.logistics.ctl." + strings.Repeat("k", 512),
		"nothing":                       "",
	} {
		t.Run(name, func(t *testing.T) {
			if s, err := control.ParseSubject(text); !errors.Is(err, fault.Invalid) {
				t.Errorf("got %v, %v", s, err)
			}
		})
	}
}

func FuzzParseSubject(f *testing.F) {
	for _, v := range refusaltest.Vectors[in, out](f, "gateway_ctl_subject") {
		f.Add(v.In.Subject)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if s, err := control.ParseSubject(text); err == nil && s.String() != text {
			t.Fatalf("%q came back as %q", text, s)
		}
	})
}

func ExampleParseSubject() {
	s, err := control.ParseSubject("acme.logistics.ctl.peers.revoke.request")
	fmt.Println(s.Org, s.App, s.Kind, err)
	// Output: acme logistics peers.revoke.request <nil>
}
