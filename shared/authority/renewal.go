package authority

import (
	"crypto/sha256"
	"encoding/binary"
	"time"
)

// RenewAfter is when a certificate may be renewed: between two thirds and five
// sixths of its life, at a point that depends on its serial alone. Certificates
// that were issued in one moment are so not renewed in one, and the last sixth is
// left for trying again.
func RenewAfter(issued, expires time.Time, serial string) time.Time {
	life := expires.Sub(issued)
	sum := sha256.Sum256([]byte("renewal/" + serial))
	jitter := time.Duration(float64(life) / 6 * float64(binary.BigEndian.Uint32(sum[:])) / (1 << 32))
	return issued.Add(life/3*2 + jitter).Truncate(time.Millisecond)
}
