package federation

import (
	"encoding/json"
	"time"

	"github.com/defenseunicorns/peat-gateway/shared/audit"
	"github.com/defenseunicorns/peat-gateway/shared/tenant"
)

type entryWire struct {
	Seq       uint64          `json:"seq"`
	ID        string          `json:"id"`
	At        time.Time       `json:"at"`
	Actor     string          `json:"actor"`
	Action    string          `json:"action"`
	Target    string          `json:"target"`
	RequestID string          `json:"request_id"`
	Detail    json.RawMessage `json:"detail"`
	Hash      audit.Hash      `json:"hash"`
}

func wireEntry(e audit.Entry) entryWire {
	return entryWire{e.Seq, e.ID, e.At, e.Actor, e.Action, e.Target, e.RequestID, e.Detail, e.Hash}
}

// trailWire is a trail as a whole. Since is the entry with which the organization
// of this name began that came last.
type trailWire struct {
	Org     tenant.OrgID `json:"org_id"`
	Entries uint64       `json:"entries"`
	Since   uint64       `json:"since"`
	Signed  uint64       `json:"signed"`
	Exists  bool         `json:"exists"`
}
