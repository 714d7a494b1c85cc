package tracing_test

import (
	"context"
	"fmt"
	"net/http"
	"testing"

	"github.com/defenseunicorns/peat-gateway/shared/platform/tracing"
)

const parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

func ExampleWith() {
	ctx := tracing.With(context.Background(), "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
	_, span := tracing.Off().Start(ctx, "work")
	defer span.End()
	fmt.Println(span.SpanContext().TraceID())
	// Output: 0af7651916cd43dd8448eb211c80319c
}

func TestTraceparentGoesThroughUnchanged(t *testing.T) {
	for name, tc := range map[string]struct{ in, want string }{
		"sampled":            {parent, parent},
		"not sampled":        {parent[:len(parent)-1] + "0", parent[:len(parent)-1] + "0"},
		"none":               {"", ""},
		"of a later version": {"01" + parent[2:] + "-more", parent},
		"zeros for an id":    {"00-00000000000000000000000000000000-b7ad6b7169203331-01", ""},
		"another's text":     {"x; drop", ""},
		"upper case":         {"00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01", ""},
	} {
		t.Run(name, func(t *testing.T) {
			ctx := tracing.With(t.Context(), tc.in)
			if got := tracing.Of(ctx); got != tc.want {
				t.Errorf("%q, want %q", got, tc.want)
			}
			h := http.Header{}
			tracing.Inject(ctx, h)
			if got := h.Get("traceparent"); got != tc.want {
				t.Errorf("header %q, want %q", got, tc.want)
			}
		})
	}
}

// FuzzParse: whatever a caller sends, what comes of it is a traceparent or nothing.
func FuzzParse(f *testing.F) {
	f.Add(parent)
	f.Add("")
	f.Add("00-")
	f.Fuzz(func(t *testing.T, text string) {
		got := tracing.Format(tracing.Parse(text))
		if got != "" && len(got) != len(parent) {
			t.Fatalf("%q", got)
		}
		if again := tracing.Format(tracing.Parse(got)); again != got {
			t.Errorf("%q becomes %q", got, again)
		}
	})
}
