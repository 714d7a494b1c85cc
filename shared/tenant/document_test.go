package tenant_test

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/defenseunicorns/peat-gateway/shared/platform/goldentest"
	"github.com/defenseunicorns/peat-gateway/shared/tenant"
)

const page = "../../docs/tenancy.md"

// TestTheDocumentShowsTheTableOfMoves keeps the picture in docs/tenancy.md equal to
// the table; UPDATE=1 draws it anew.
func TestTheDocumentShowsTheTableOfMoves(t *testing.T) {
	var picture strings.Builder
	picture.WriteString("```mermaid\nstateDiagram-v2\n    [*] --> active: create\n")
	doors := map[tenant.State]string{tenant.Active: "resume", tenant.Suspended: "suspend", tenant.Destroyed: "destroy"}
	for _, from := range []tenant.State{tenant.Active, tenant.Suspended, tenant.Destroyed} {
		for _, to := range from.Moves() {
			fmt.Fprintf(&picture, "    %s --> %s: %s\n", from, to, doors[to])
		}
		if len(from.Moves()) == 0 {
			fmt.Fprintf(&picture, "    %s --> [*]\n", from)
		}
	}
	text := readPage(t)
	before, rest, found := strings.Cut(text, "```mermaid\n")
	_, after, closed := strings.Cut(rest, "```\n")
	if !found || !closed {
		t.Fatal("there is no picture")
	}
	goldentest.Check(t, page, []byte(before+picture.String()+"```\n"+after))
}

// TestTheDocumentHasEveryQuota with its default.
func TestTheDocumentHasEveryQuota(t *testing.T) {
	b, err := json.Marshal(tenant.DefaultQuotas())
	if err != nil {
		t.Fatal(err)
	}
	var quotas map[string]int
	if err := json.Unmarshal(b, &quotas); err != nil {
		t.Fatal(err)
	}
	text := readPage(t)
	for name, value := range quotas {
		if row := fmt.Sprintf("| `%s` | %d |", name, value); !strings.Contains(text, row) {
			t.Errorf("docs/tenancy.md lacks %q", row)
		}
	}
}

func readPage(t *testing.T) string {
	t.Helper()
	b, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
