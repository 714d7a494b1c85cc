package authority

import (
	"testing"

	"github.com/defenseunicorns/peat-gateway/shared/platform/point"
)

// TestNoProofIsACertificate: what peat-mesh signs begins with a key, and no proof does.
func TestNoProofIsACertificate(t *testing.T) {
	if len(possessionContext) != 32 || point.OnCurve([]byte(possessionContext)) {
		t.Errorf("%q (%d bytes) may be a key", possessionContext, len(possessionContext))
	}
}
