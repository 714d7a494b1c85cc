package keyring_test

import (
	"strings"
	"testing"

	"github.com/defenseunicorns/peat-gateway/shared/keyring"
	"github.com/defenseunicorns/peat-gateway/shared/tenant"
)

func TestWhatTheOperatorAllows(t *testing.T) {
	a, err := keyring.ParseAllowance(" acme=awskms:arn:aws:kms:eu-central-1:111122223333:key/1234 ,vault:transit/org-{org}, vault:shared/*,,globex=vault:{org}/transit/*")
	if err != nil {
		t.Fatal(err)
	}
	a = a.With("local:0011223344556677")
	for name, tc := range map[string]struct {
		org tenant.OrgID
		key string
		ok  bool
	}{
		"its own by name":                 {"acme", "awskms:arn:aws:kms:eu-central-1:111122223333:key/1234", true},
		"that of another by name":         {"rival", "awskms:arn:aws:kms:eu-central-1:111122223333:key/1234", false},
		"another of the same account":     {"acme", "awskms:arn:aws:kms:eu-central-1:111122223333:key/12345", false},
		"the one with its name in it":     {"rival", "vault:transit/org-rival", true},
		"the one with another's name":     {"rival", "vault:transit/org-acme", false},
		"one that begins like its own":    {"rival", "vault:transit/org-rival2", false},
		"the mark itself":                 {"rival", "vault:transit/org-{org}", false},
		"everybody's":                     {"rival", "vault:shared/any", true},
		"the folder of everybody's":       {"rival", "vault:shared", false},
		"its own folder":                  {"globex", "vault:globex/transit/k", true},
		"somebody else's folder":          {"rival", "vault:globex/transit/k", false},
		"a folder that is not its":        {"globex", "vault:rival/transit/k", false},
		"the gateway's":                   {"rival", "local:0011223344556677", true},
		"another local one":               {"rival", "local:0011223344556678", false},
		"nothing":                         {"rival", "", false},
		"nobody may use what is allowed":  {"", "awskms:arn:aws:kms:eu-central-1:111122223333:key/1234", false},
		"another spelling of the account": {"ACME", "awskms:arn:aws:kms:eu-central-1:111122223333:key/1234", false},
	} {
		t.Run(name, func(t *testing.T) {
			if got := a.Permits(tc.org, tc.key); got != tc.ok {
				t.Errorf("Permits(%q, %q) = %v", tc.org, tc.key, got)
			}
		})
	}
	if (keyring.Allowance{}).Permits("acme", "local:0011223344556677") {
		t.Error("without a list something is allowed")
	}
}

func TestAllowanceIsRefused(t *testing.T) {
	for name, in := range map[string]string{
		"no kind":                   "transit/key",
		"a kind that is not known":  "gcpkms:x",
		"only a kind":               "vault:",
		"a star in the middle":      "vault:*/key",
		"two stars":                 "vault:x**",
		"an organization's prefix":  "vault:transit/{org}*",
		"no organization":           "=vault:transit/x",
		"an impossible one":         "a.b=vault:transit/x",
		"a space":                   "vault:transit/a b",
		"the second of two":         "vault:transit/a,nothing",
		"everything":                "*",
		"not ASCII":                 "vault:transit/schlüssel",
		"an organization of spaces": " =vault:transit/x",
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := keyring.ParseAllowance(in); err == nil {
				t.Errorf("%q was accepted", in)
			}
		})
	}
}

func FuzzParseAllowance(f *testing.F) {
	f.Add("acme=awskms:arn:aws:kms:x:1:key/1,vault:transit/{org}", "acme", "vault:transit/acme")
	f.Fuzz(func(t *testing.T, text, org, key string) {
		a, err := keyring.ParseAllowance(text)
		if err != nil {
			if a.Permits(tenant.OrgID(org), key) {
				t.Error("what was refused permits")
			}
			return
		}
		if _, err := tenant.ParseOrgID(org); err == nil && !a.With(key).Permits(tenant.OrgID(org), key) && !strings.ContainsAny(key, "*{") {
			t.Errorf("%q is not permitted though it was added", key)
		}
	})
}
