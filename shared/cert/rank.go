package cert

import "github.com/defenseunicorns/peat-gateway/shared/refusal"

// Rank is a tier in the words of the gateway's policies.
type Rank string

// The ranks. None is the tier Edge.
const (
	AuthorityRank      Rank = "Authority"
	InfrastructureRank Rank = "Infrastructure"
	EndpointRank       Rank = "Endpoint"
)

var ranks = map[Rank]Tier{AuthorityRank: Enterprise, InfrastructureRank: Regional, EndpointRank: Tactical}

// Tier returns the tier of a rank.
func (r Rank) Tier() (Tier, error) {
	if t, ok := ranks[r]; ok {
		return t, nil
	}
	return 0, refusal.Serialization.New("tier must be Authority, Infrastructure or Endpoint")
}

// Rank returns the rank of a tier, if it has one.
func (t Tier) Rank() (Rank, bool) {
	for r, of := range ranks {
		if of == t {
			return r, true
		}
	}
	return "", false
}

// adminMask is the one permission that has another bit in policies.
const adminMask = 0x08

const sameBits = Relay | Emergency | Enroll

// FromMask returns the permissions that a policy's mask stands for. Bits without
// a meaning are dropped, among them the one that means Admin in a certificate.
func FromMask(mask uint32) Permission {
	p := Permission(mask) & sameBits
	if mask&adminMask != 0 {
		p |= Admin
	}
	return p
}

// Mask returns the mask that stands for p in a policy.
func (p Permission) Mask() uint32 {
	mask := uint32(p & sameBits)
	if p.Has(Admin) {
		mask |= adminMask
	}
	return mask
}
