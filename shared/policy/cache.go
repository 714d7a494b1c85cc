package policy

import "github.com/defenseunicorns/peat-gateway/shared/tenant"

// Source is a document with the name of its text.
type Source struct {
	Document Document
	Digest   string // empty if there is none
}

// Sources are the rules that decide on a formation's nodes: those of its
// organization, and its own.
type Sources struct {
	App            tenant.AppID
	Org, Formation Source
}
