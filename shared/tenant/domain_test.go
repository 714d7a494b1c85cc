package tenant

import (
	"testing"

	"github.com/defenseunicorns/peat-gateway/shared/platform/point"
)

// TestNoRecordIsACertificate: a certificate begins with a key, and no record does.
func TestNoRecordIsACertificate(t *testing.T) {
	if point.OnCurve(destructionDomain[:32]) {
		t.Error("the domain of destruction records may be a key")
	}
}
