package main

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/defenseunicorns/peat-gateway/shared/audit"
)

// The export that the package audit holds still, and the public key of its signatures.
const (
	exportFile = "../../shared/audit/testdata/export.ndjson"
	exportKey  = "ea4a6c63e29c520abef5507b132ec5f9954776aebebe7b92421eea691446d22c"
)

func TestAuditVerify(t *testing.T) {
	whole, err := os.ReadFile(exportFile)
	if err != nil {
		t.Fatal(err)
	}
	known := strings.Repeat("ab", 32)
	for name, tc := range map[string]struct {
		args []string
		data string
		code int
		says string
	}{
		"all is well":              {nil, string(whole), 0, "not checked"},
		"with the key":             {[]string{"-key", exportKey, "-org", "acme"}, string(whole), 0, "(known)"},
		"with another key":         {[]string{"-key", strings.Repeat("ab", 32)}, string(whole), 1, "is not one of those that are trusted"},
		"with both":                {[]string{"-key", strings.Repeat("ab", 32), "-key", exportKey}, string(whole), 0, "(known)"},
		"another organization":     {[]string{"-org", "rival"}, string(whole), 1, `the export is of organization "acme"`},
		"another history":          {[]string{"-head", "2:" + known}, string(whole), 1, "line 3: rewritten: a head that is known"},
		"an entry changed":         {nil, strings.Replace(string(whole), `"actor":"ann"`, `"actor":"bob"`, 1), 1, "line 2: altered: entry 1 is not what its hash says"},
		"nothing":                  {nil, "", 1, "truncated: there is nothing in it"},
		"a terminal's own letters": {nil, "\x1b[2J\n", 1, "line 1: malformed"},
		"a name of no key":         {[]string{"-key", "x"}, string(whole), 2, ""},
		"a name of no head":        {[]string{"-head", "x"}, string(whole), 2, ""},
		"a name of nobody":         {[]string{"-org", "a b"}, string(whole), 2, ""},
		"a flag that is none":      {[]string{"-x"}, string(whole), 2, ""},
		"two files":                {[]string{"x"}, string(whole), 2, ""},
	} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "export.ndjson")
			if err := os.WriteFile(file, []byte(tc.data), 0o600); err != nil {
				t.Fatal(err)
			}
			var out bytes.Buffer
			for _, source := range []string{file, "-"} {
				out.Reset()
				err := auditCommand(t.Context(), append(append([]string{"verify"}, tc.args...), source), strings.NewReader(tc.data), &out, &bytes.Buffer{})
				if exitCode(err) != tc.code || !strings.Contains(out.String(), tc.says) || strings.Contains(out.String(), "\x1b") {
					t.Errorf("%s: code %d (%v), want %d and %q:\n%s", source, exitCode(err), err, tc.code, tc.says, &out)
				}
			}
		})
	}
	for _, args := range [][]string{nil, {"export"}, {"verify"}, {"verify", "/does/not/exist"}} {
		if err := auditCommand(t.Context(), args, strings.NewReader(""), &bytes.Buffer{}, &bytes.Buffer{}); exitCode(err) != 2 {
			t.Errorf("%v: %v", args, err)
		}
	}
	if err := printAudit(brokenWriter{}, audit.Report{}); exitCode(err) != 2 {
		t.Errorf("an output that fails: %v", err)
	}
}

type brokenWriter struct{}

func (brokenWriter) Write([]byte) (int, error) { return 0, errors.New("no room") }
