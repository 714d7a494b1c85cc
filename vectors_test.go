package gateway_test

import (
	"bytes"
	"encoding/json"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// vectorGroups is every group of known answers that there is of the Rust
// implementation, and how many answers each has. One that comes or goes is written
// here, so that none is forgotten.
var vectorGroups = map[string]int{
	"certificate":                 34,
	"certificate_bundle":          14,
	"certificate_decode":          16,
	"certificate_entry_json":      1,
	"certificate_verify":          8,
	"credentials":                 17,
	"device_id":                   9,
	"device_keypair_from_seed":    7,
	"enrollment_request":          6,
	"enrollment_request_decode":   9,
	"enrollment_request_verify":   3,
	"enrollment_response":         7,
	"enrollment_response_decode":  10,
	"envelope":                    4,
	"envelope_open":               11,
	"formation_challenge_decode":  5,
	"formation_key":               13,
	"formation_key_from_base64":   8,
	"formation_response_decode":   3,
	"formation_verdict":           4,
	"gateway_cdc_event":           2,
	"gateway_ctl_subject":         8,
	"gateway_identifier":          15,
	"gateway_subject_prefix":      10,
	"gateway_tier_permission_map": 18,
	"genesis":                     9,
	"genesis_decode":              8,
	"genesis_external_authority":  1,
	"iroh_endpoint":               8,
	"iroh_endpoint_peat_protocol": 3,
	"sync_batch":                  2,
	"sync_frame":                  3,
	"tombstone":                   5,
	"tombstone_batch":             2,
	"tombstone_decode":            8,
}

// TestVectorsAreAllClaimed shows that each group lies with the package that has to
// give its answers, whole, and that a test there asks for it.
func TestVectorsAreAllClaimed(t *testing.T) {
	claimed := map[string]string{}
	err := filepath.WalkDir("shared", func(path string, _ fs.DirEntry, err error) error {
		dir, file := filepath.Split(path)
		if err != nil || filepath.Ext(file) != ".json" || !strings.HasSuffix(dir, "/testdata/vectors/") {
			return err
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		var group struct {
			Name    string
			Vectors []struct{ ID string }
		}
		if err := json.Unmarshal(text, &group); err != nil {
			return err
		}
		pkg := strings.TrimSuffix(dir, "/testdata/vectors/")
		want, known := vectorGroups[group.Name]
		switch {
		case !known || group.Name+".json" != file:
			t.Errorf("%s: no such group of vectors", path)
		case claimed[group.Name] != "":
			t.Errorf("%s and %s have the same vectors", claimed[group.Name], pkg)
		case len(group.Vectors) != want:
			t.Errorf("%s: %d vectors, want %d", path, len(group.Vectors), want)
		}
		seen := map[string]bool{}
		for _, v := range group.Vectors {
			if seen[v.ID] || !strings.HasPrefix(v.ID, group.Name+"/") {
				t.Errorf("%s: %q is there twice, or of another group", path, v.ID)
			}
			seen[v.ID] = true
		}
		if !asked(t, pkg, group.Name) {
			t.Errorf("%s: no test of %s asks for it", path, pkg)
		}
		if _, err := os.Stat(filepath.Join(dir, "README.md")); err != nil {
			t.Errorf("%s: nothing says where it comes from", dir)
		}
		claimed[group.Name] = pkg
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for name := range vectorGroups {
		if claimed[name] == "" {
			t.Errorf("no package has the vectors %s", name)
		}
	}
}

// asked tells whether a test of pkg names the group.
func asked(t *testing.T, pkg, group string) bool {
	t.Helper()
	tests, err := filepath.Glob(filepath.Join(pkg, "*_test.go"))
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range tests {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Contains(text, []byte(`"`+group+`"`)) || bytes.Contains(text, []byte("/"+group+".json")) {
			return true
		}
	}
	return false
}
