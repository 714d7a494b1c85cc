package enroll

import (
	"context"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/defenseunicorns/peat-gateway/shared/access"
	"github.com/defenseunicorns/peat-gateway/shared/authority"
	"github.com/defenseunicorns/peat-gateway/shared/cert"
	"github.com/defenseunicorns/peat-gateway/shared/platform/fault"
	"github.com/defenseunicorns/peat-gateway/shared/platform/web"
	"github.com/defenseunicorns/peat-gateway/shared/store"
	"github.com/defenseunicorns/peat-gateway/shared/tenant"
)

// listCertificates lists a formation's certificates, the newest first, or by expiry
// those that expire soon. What is issued meanwhile moves no page.
func (f *Function) listCertificates(w http.ResponseWriter, r *http.Request) error {
	key, err := access.KeyOf(r)
	if err != nil {
		return err
	}
	page, err := web.ParsePage(r)
	if err != nil {
		return err
	}
	filter, err := filterOf(r)
	if err != nil {
		return err
	}
	after, err := parseAfter(page.After)
	if err != nil {
		return err
	}
	now := f.now()
	found, err := f.Store.Certificates(r.Context(), key, filter, now, after, page.Limit+1)
	if err != nil {
		return err
	}
	list := web.NewList(found, page, afterOf)
	out := web.List[certificateWire]{Items: make([]certificateWire, len(list.Items)), Next: list.Next}
	for i, c := range list.Items {
		if out.Items[i], err = wireCertificate(c, now); err != nil {
			return err
		}
	}
	return web.WriteJSON(w, http.StatusOK, out)
}

func filterOf(r *http.Request) (authority.Filter, error) {
	q := r.URL.Query()
	f := authority.Filter{Standing: authority.Standing(q.Get("state")), NodeID: q.Get("node_id"), Authority: q.Get("authority_id")}
	if f.Standing != "" && !slices.Contains(authority.Standings(), f.Standing) {
		return f, fault.Malformed.New("state must be active, revoked or expired")
	}
	if len(f.NodeID) > cert.MaxIDBytes || len(f.Authority) > cert.MaxIDBytes || strings.ContainsRune(f.NodeID+f.Authority, 0) {
		return f, fault.Malformed.New("node_id and authority_id are at most %d bytes", cert.MaxIDBytes)
	}
	if s := q.Get("expiring_before"); s != "" {
		at, err := time.Parse(time.RFC3339, s)
		if err != nil || at.Year() < 1970 || at.Year() > 9999 {
			return f, fault.Malformed.New("expiring_before must be a time such as 2026-01-02T15:04:05Z")
		}
		f.ExpiringBefore = at.UTC()
	}
	return f, nil
}

// A cursor is the number of the last certificate and when it expires.
func afterOf(c authority.Certificate) string {
	return strconv.FormatUint(c.Number, 10) + " " + strconv.FormatInt(c.ExpiresAt.UnixMilli(), 10)
}

func parseAfter(s string) (store.After, error) {
	if s == "" {
		return store.After{}, nil
	}
	number, expires, _ := strings.Cut(s, " ")
	n, err := strconv.ParseUint(number, 10, 63)
	ms, msErr := strconv.ParseInt(expires, 10, 48)
	if err != nil || msErr != nil || n == 0 {
		return store.After{}, fault.Malformed.New("cursor is not one that this API gave out")
	}
	return store.After{Number: n, Expires: time.UnixMilli(ms).UTC()}, nil
}

// getCertificate shows a certificate: what it says, how it came to be, and those
// that it was renewed from and to.
func (f *Function) getCertificate(w http.ResponseWriter, r *http.Request) error {
	key, err := access.KeyOf(r)
	if err != nil {
		return err
	}
	serial, err := serialOf(r)
	if err != nil {
		return err
	}
	c, err := f.Store.Certificate(r.Context(), key, serial)
	if err != nil {
		return err
	}
	out, err := f.inspect(r.Context(), key, c)
	if err != nil {
		return err
	}
	return web.WriteJSON(w, http.StatusOK, out)
}

// maxHistory bounds the history that one answer shows.
const maxHistory = 50

func (f *Function) inspect(ctx context.Context, key tenant.Key, c authority.Certificate) (inspectionWire, error) {
	now := f.now()
	wire, err := wireCertificate(c, now)
	if err != nil {
		return inspectionWire{}, err
	}
	decoded, err := cert.Decode(c.Encoded)
	if err != nil {
		return inspectionWire{}, err
	}
	document, err := decoded.Document(c.IssuedAt)
	if err != nil {
		return inspectionWire{}, err
	}
	out := inspectionWire{certificateWire: wire, Document: documentWire{document.Key(), document}, History: []historyWire{}}
	all, err := f.Store.CertificatesOfNode(ctx, key, c.NodeID, c.Subject, maxHistory)
	for _, other := range all {
		out.History = append(out.History, historyWire{
			Serial: other.Serial, State: other.Standing(now), IssuedAt: other.IssuedAt, ExpiresAt: other.ExpiresAt, Rule: other.Rule, Replaces: other.Replaces,
		})
	}
	return out, err
}
