package enrollment

import (
	"crypto/hmac"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/defenseunicorns/peat-gateway/shared/platform/fault"
	"github.com/defenseunicorns/peat-gateway/shared/platform/token"
	"github.com/defenseunicorns/peat-gateway/shared/tenant"
)

// ChallengePrefix is what the text of a challenge begins with. It is no secret, but a
// message of peat-mesh carries it where a token is, and so must tell it from one.
const ChallengePrefix = "peat_chl_"

// ChallengeLife is how long a node has to answer a challenge.
const ChallengeLife = 5 * time.Minute

const (
	challengeChance = 16
	challengeMAC    = 32
	challengeSize   = 8 + challengeChance + challengeMAC
)

// Challenge is what a node's proof must answer: made for one formation, good for a
// while, and used once. Nothing is kept of one that was not used: it says itself what
// it is for, under a key that only the gateway has.
type Challenge struct {
	Text      string
	Nonce     []byte // by which a used one is remembered
	ExpiresAt time.Time
}

// NewChallenge makes a challenge for a formation.
func NewChallenge(k token.Key, key tenant.Key, meshID string, now time.Time, random io.Reader) (Challenge, error) {
	expires := now.Add(ChallengeLife).UTC().Truncate(time.Millisecond)
	b := binary.BigEndian.AppendUint64(make([]byte, 0, challengeSize), uint64(expires.UnixMilli()))
	b = b[:8+challengeChance]
	if _, err := io.ReadFull(random, b[8:]); err != nil {
		return Challenge{}, fmt.Errorf("make a challenge: %w", err)
	}
	nonce := b[8 : 8+challengeChance : 8+challengeChance]
	b = append(b, k.Hash(challengeText(key, meshID, b))...)
	return Challenge{ChallengePrefix + base64.RawURLEncoding.EncodeToString(b), nonce, expires}, nil
}

// OpenChallenge returns the challenge of a text, or that it is none which a node of
// this formation may answer now. It does not tell whether it was used.
func OpenChallenge(k token.Key, text string, key tenant.Key, meshID string, now time.Time) (Challenge, error) {
	unknown := fault.Unauthenticated.New("the challenge is not one of this formation's")
	encoded, ok := strings.CutPrefix(text, ChallengePrefix)
	if !ok || len(encoded) != base64.RawURLEncoding.EncodedLen(challengeSize) {
		return Challenge{}, unknown
	}
	b, err := base64.RawURLEncoding.Strict().DecodeString(encoded)
	if err != nil {
		return Challenge{}, unknown
	}
	said, mac := b[:8+challengeChance], b[8+challengeChance:]
	found := false
	for _, want := range k.Hashes(challengeText(key, meshID, said)) {
		found = hmac.Equal(want, mac) || found
	}
	if !found {
		return Challenge{}, unknown
	}
	// What the key says was ours: the time can be believed.
	expires := time.UnixMilli(int64(binary.BigEndian.Uint64(said))).UTC()
	if !now.Before(expires) {
		return Challenge{}, fault.Unauthenticated.New("the challenge has expired")
	}
	return Challenge{text, said[8:], expires}, nil
}

// challengeText is what is signed. It begins as no token does.
func challengeText(key tenant.Key, meshID string, said []byte) string {
	out := []byte("peat-gateway/challenge/v1\x00")
	for _, part := range []string{string(key.Org), string(key.App), meshID} {
		out = binary.LittleEndian.AppendUint16(out, uint16(len(part)))
		out = append(out, part...)
	}
	return string(append(out, said...))
}
