package keyring

import (
	"cmp"
	"context"
	"crypto/ed25519"
	"errors"
	"maps"
	"slices"

	"github.com/defenseunicorns/peat-gateway/shared/envelope"
	"github.com/defenseunicorns/peat-gateway/shared/platform/fault"
	"github.com/defenseunicorns/peat-gateway/shared/tenant"
)

// Holding is how many records of an organization one key holds.
type Holding struct {
	Org     tenant.OrgID `json:"org_id"`
	Kind    string       `json:"kind"`
	KeyID   string       `json:"key_id"`  // empty where the envelope does not say
	Version int          `json:"version"` // of the envelope; 0 is none at all
	Current bool         `json:"current"` // sealed with the key and in the version of today
	Count   int          `json:"count"`
}

// Status counts what is sealed with which key. It opens nothing and asks no key
// service.
func (k *Keyring) Status(ctx context.Context, records Records, scope tenant.OrgID) ([]Holding, error) {
	counts := map[Holding]int{}
	err := eachOrg(ctx, records, scope, "", func(ctx context.Context, org tenant.OrgID) error {
		return eachPage(ctx, records, org, envelope.Record{}, func(page []Sealed) error {
			for _, s := range page {
				current, err := k.isCurrent(ctx, s)
				if err != nil {
					return err
				}
				header, _ := envelope.ReadHeader(s.Blob) // what cannot be read shows as version 0
				counts[Holding{Org: org, Kind: s.Record.Kind, KeyID: header.KeyID, Version: header.Version, Current: current}]++
			}
			return nil
		})
	})
	out := slices.Collect(maps.Keys(counts))
	for i, h := range out {
		out[i].Count = counts[h]
	}
	slices.SortFunc(out, func(a, b Holding) int {
		return cmp.Or(cmp.Compare(a.Org, b.Org), cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.KeyID, b.KeyID), cmp.Compare(a.Version, b.Version))
	})
	return out, err
}

// VerifyReport tells which records open.
type VerifyReport struct {
	Opened   int       `json:"opened"`
	Failed   int       `json:"failed"`
	Failures []Failure `json:"failures"`
}

// Verify opens every record of a scope and tells which do not. What it finds of a
// formation's root is what the formation shows from then on.
func (k *Keyring) Verify(ctx context.Context, records Records, scope tenant.OrgID) (VerifyReport, error) {
	r := VerifyReport{Failures: []Failure{}}
	err := eachOrg(ctx, records, scope, "", func(ctx context.Context, org tenant.OrgID) error {
		away := false // the key service of this organization does not answer
		return eachPage(ctx, records, org, envelope.Record{}, func(page []Sealed) error {
			for _, s := range page {
				var err error = envelope.ErrUnavailable
				if !away {
					err = k.verify(ctx, s)
				}
				if ctx.Err() != nil {
					return ctx.Err()
				}
				away = away || errors.Is(err, fault.Unavailable)
				if err == nil {
					r.Opened++
					continue
				}
				r.Failed++
				if len(r.Failures) < maxFailures {
					r.Failures = append(r.Failures, failure(s.Record, err))
				}
			}
			return nil
		})
	})
	return r, err
}

func (k *Keyring) verify(ctx context.Context, s Sealed) error {
	plaintext, err := k.Open(ctx, s.Record, s.Blob)
	clear(plaintext)
	if s.Record.Kind != Genesis || k.deps.Root == nil || errors.Is(err, fault.Unavailable) {
		return err
	}
	key := tenant.Key{Org: tenant.OrgID(s.Record.Org), App: tenant.AppID(s.Record.App)}
	rootErr := k.Authority(ctx, key, func(ed25519.PrivateKey) error { return nil })
	if errors.Is(rootErr, fault.NotFound) {
		return nil // destroyed meanwhile
	}
	return cmp.Or(err, rootErr)
}
