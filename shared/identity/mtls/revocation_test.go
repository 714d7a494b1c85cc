package mtls_test

import (
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/crypto/ocsp"

	"github.com/defenseunicorns/peat-gateway/shared/identity"
	"github.com/defenseunicorns/peat-gateway/shared/identity/mtls/mtlstest"
	"github.com/defenseunicorns/peat-gateway/shared/platform/fault"
)

func at(t time.Time) string { return t.UTC().Format("20060102150405Z") }

func TestLists(t *testing.T) {
	now := time.Now()
	root := mtlstest.NewRoot(t, "root")
	issuing := root.Under(t, mtlstest.Request{Subject: "/CN=issuing"})
	lost := root.Under(t, mtlstest.Request{Subject: "/CN=lost"})
	with := func(a *mtlstest.Authority, extensions string) []*x509.Certificate {
		return chain(a.Issue(t, mtlstest.Request{Subject: john, Extensions: mtlstest.Client + extensions}), a)
	}
	good, bad, below := with(issuing, ""), with(issuing, ""), with(lost, "")
	ofRoot := []*x509.Certificate{root.Issue(t, mtlstest.Request{Subject: john}).Cert}
	partOf := with(issuing, "crlDistributionPoints=URI:http://crl.example/1\n")
	partOfNone := with(issuing, "crlDistributionPoints=URI:http://crl.example/2\n")
	before := issuing.List(t, "-crl_lastupdate", at(now.Add(-3*time.Hour)), "-crl_nextupdate", at(now.Add(3*time.Hour)))
	issuing.Revoke(t, bad[0])
	root.Revoke(t, lost.Cert)
	rootList, list, lostList := root.List(t), issuing.List(t), lost.List(t)
	stale := issuing.List(t, "-crl_lastupdate", at(now.Add(-3*time.Hour)), "-crl_nextupdate", at(now.Add(-2*time.Hour)))
	early := issuing.List(t, "-crl_lastupdate", at(now.Add(2*time.Hour)), "-crl_nextupdate", at(now.Add(3*time.Hour)))
	short := issuing.List(t, "-crl_lastupdate", at(now.Add(-time.Hour)), "-crl_nextupdate", at(now.Add(time.Hour)))
	users := issuing.ListWith(t, "issuingDistributionPoint=critical,@p\n[p]\nonlyuser=TRUE")
	authorities := issuing.ListWith(t, "issuingDistributionPoint=critical,@p\n[p]\nonlyCA=TRUE")
	part := issuing.ListWith(t, "issuingDistributionPoint=critical,@p\n[p]\nfullname=URI:http://crl.example/1")

	block, _ := pem.Decode([]byte(list))
	binary := base64.StdEncoding.EncodeToString(block.Bytes)

	for name, tc := range map[string]struct {
		revocation object
		chain      []*x509.Certificate
		word       string // empty: it is refused
		kind       error
		why        string
	}{
		"good":                              {object{"crls": []string{list, rootList}}, good, "good", nil, ""},
		"good, in DER":                      {object{"crls": []string{binary, rootList}}, good, "good", nil, ""},
		"good, both in one text":            {object{"crls": []string{list + rootList}}, good, "good", nil, ""},
		"revoked":                           {object{"crls": []string{list, rootList}}, bad, "", fault.Unauthenticated, "it was revoked"},
		"revoked, by a list in DER":         {object{"crls": []string{binary, rootList}}, bad, "", fault.Unauthenticated, "it was revoked"},
		"revoked, the newer list counts":    {object{"crls": []string{before, list, rootList}}, bad, "", fault.Unauthenticated, "it was revoked"},
		"revoked, in whatever order":        {object{"crls": []string{list, before, rootList}}, bad, "", fault.Unauthenticated, "it was revoked"},
		"not known yet by an older list":    {object{"crls": []string{before, rootList}}, bad, "good", nil, ""},
		"an authority was revoked":          {object{"crls": []string{lostList, rootList}}, below, "", fault.Unauthenticated, "an authority in its chain was revoked"},
		"the leaf alone is looked at":       {object{"crls": []string{lostList, rootList}, "scope": "leaf"}, below, "good", nil, ""},
		"no list of the authority above":    {object{"crls": []string{list}}, good, "", fault.Unauthenticated, "nothing says whether an authority in its chain was revoked"},
		"not needed for the leaf":           {object{"crls": []string{list}, "scope": "leaf"}, good, "good", nil, ""},
		"no list of the issuer":             {object{"crls": []string{rootList}}, good, "", fault.Unauthenticated, "nothing says whether it was revoked"},
		"no list, softly":                   {object{"crls": []string{rootList}, "mode": "soft"}, good, "unknown", nil, ""},
		"right below the root":              {object{"crls": []string{rootList}}, ofRoot, "good", nil, ""},
		"a stale list":                      {object{"crls": []string{stale, rootList}}, good, "", fault.Unavailable, "the list of revocations ended on"},
		"a stale list, softly":              {object{"crls": []string{stale, rootList}, "mode": "soft"}, good, "unknown", nil, ""},
		"a stale list knows who is revoked": {object{"crls": []string{stale, rootList}, "mode": "soft"}, bad, "", fault.Unauthenticated, "it was revoked"},
		"a stale list, with grace":          {object{"crls": []string{stale, rootList}, "crl_grace": "24h"}, good, "stale", nil, ""},
		"a stale list, the grace over":      {object{"crls": []string{stale, rootList}, "crl_grace": "1h"}, good, "", fault.Unavailable, "ended on"},
		"a list of the future":              {object{"crls": []string{early, rootList}}, good, "", fault.Unavailable, "not valid yet"},
		"a list of the future, one of now":  {object{"crls": []string{early, short, rootList}}, good, "good", nil, ""},
		"revoked by a list of the future":   {object{"crls": []string{early, before, rootList}}, bad, "", fault.Unauthenticated, "it was revoked"},
		"a list of users":                   {object{"crls": []string{users, rootList}}, good, "good", nil, ""},
		"revoked by a list of users":        {object{"crls": []string{users, rootList}}, bad, "", fault.Unauthenticated, "it was revoked"},
		"a list of authorities alone":       {object{"crls": []string{authorities, rootList}}, good, "", fault.Unauthenticated, "nothing says"},
		"a part of the list":                {object{"crls": []string{part, rootList}}, partOf, "good", nil, ""},
		"another part of the list":          {object{"crls": []string{part, rootList}}, partOfNone, "", fault.Unauthenticated, "nothing says"},
		"a part, and it names none":         {object{"crls": []string{part, rootList}}, good, "", fault.Unauthenticated, "nothing says"},
		"nobody looks":                      {object{"mode": "off"}, bad, "unchecked", nil, ""},
	} {
		t.Run(name, func(t *testing.T) {
			if tc.revocation["mode"] == nil {
				tc.revocation["mode"] = "hard"
			}
			got, err := open(t, object{"ca_pem": bundle(root, issuing, lost), "revocation": tc.revocation}).Verify(t.Context(), identity.Proof{Chain: tc.chain}, time.Now())
			if tc.word == "" {
				refused(t, err, tc.kind, tc.why)
			} else if err != nil || got.Attributes["revocation"] != tc.word || got.Grace.IsZero() == (tc.word == "stale") {
				t.Errorf("got %v, grace until %s, %v", got.Attributes["revocation"], got.Grace, err)
			}
		})
	}

	config := object{"ca_pem": bundle(root, issuing), "revocation": object{"mode": "hard", "crls": []string{short, rootList}, "bounds_session": true}}
	got, err := open(t, config).Verify(t.Context(), identity.Proof{Chain: good}, time.Now())
	if end := now.Add(time.Hour).UTC().Truncate(time.Second); err != nil || !got.ExpiresAt.Equal(end) {
		t.Errorf("the session ends %s, the list %s: %v", got.ExpiresAt, end, err)
	}
}

func TestResponder(t *testing.T) {
	now := time.Now()
	root := mtlstest.NewRoot(t, "root")
	client := func(extensions string) mtlstest.Identity {
		return root.Issue(t, mtlstest.Request{Subject: john, Extensions: mtlstest.Client + extensions})
	}
	good, bad := client(""), client("")
	root.Revoke(t, bad.Cert)
	signing := "basicConstraints=CA:FALSE\nkeyUsage=digitalSignature\nextendedKeyUsage=OCSPSigning\n"
	signer := root.Issue(t, mtlstest.Request{Subject: "/CN=responder", Extensions: signing})
	old := root.Issue(t, mtlstest.Request{Subject: "/CN=responder", Extensions: signing, Start: now.Add(-48 * time.Hour), End: now.Add(-time.Hour)})
	stranger := mtlstest.NewRoot(t, "root")
	strangersSigner := stranger.Issue(t, mtlstest.Request{Subject: "/CN=responder", Extensions: signing})
	other := client("")

	serve := func(h http.HandlerFunc) string {
		server := httptest.NewServer(h)
		t.Cleanup(server.Close)
		return server.URL
	}
	answer := func(signer *mtlstest.Identity, more ...string) string {
		url, _ := root.Responder(t, signer, more...)
		return url
	}
	question, err := ocsp.CreateRequest(good.Cert, root.Cert, nil)
	if err != nil {
		t.Fatal(err)
	}
	kept := root.Answer(t, question, nil)
	keep := serve(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(kept) })
	inside := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(inside.Close)
	elsewhere := serve(func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, inside.URL, http.StatusTemporaryRedirect)
	})
	long := serve(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(make([]byte, 80<<10)) })
	broken := serve(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("OK")) })
	wrong := serve(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusInternalServerError) })
	cut := serve(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "100")
		_, _ = w.Write([]byte("O"))
	})
	tryLater := serve(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte{0x30, 3, 0x0a, 1, 3}) })

	for name, tc := range map[string]struct {
		revocation object
		leaf       mtlstest.Identity
		word       string // empty: it is refused
		kind       error
		why        string
	}{
		"good": {object{"ocsp_url": answer(nil)}, good, "good", nil, ""},
		"good, by a responder with a certificate": {object{"ocsp_url": answer(&signer)}, good, "good", nil, ""},
		"good, to this very question":             {object{"ocsp_url": answer(nil), "ocsp_nonce": true}, good, "good", nil, ""},
		"good, at the certificate's own address":  {object{}, client("authorityInfoAccess=OCSP;URI:" + answer(nil) + "\n"), "good", nil, ""},
		"revoked":                                 {object{"ocsp_url": answer(nil)}, bad, "", fault.Unauthenticated, "it was revoked"},
		"revoked, softly":                         {object{"ocsp_url": answer(nil), "mode": "soft"}, bad, "", fault.Unauthenticated, "it was revoked"},
		"revoked, by a responder":                 {object{"ocsp_url": answer(&signer)}, bad, "", fault.Unauthenticated, "it was revoked"},
		"nowhere to ask":                          {object{}, good, "", fault.Unauthenticated, "nothing says whether it was revoked"},
		"nowhere to ask, softly":                  {object{"mode": "soft"}, good, "unknown", nil, ""},
		// What the client itself could sign.
		"signed with another certificate of the authority": {object{"ocsp_url": answer(&other)}, good, "", fault.Unavailable, "not one for responders"},
		"signed with the very certificate":                 {object{"ocsp_url": answer(&bad)}, bad, "", fault.Unavailable, "not one for responders"},
		"signed by another authority's responder":          {object{"ocsp_url": answer(&strangersSigner)}, good, "", fault.Unavailable, "nor by one whom it certified"},
		"signed by a responder that has expired":           {object{"ocsp_url": answer(&old)}, good, "", fault.Unavailable, "has expired"},
		"signed by the authority of the same name":         {object{"ocsp_url": func() string { u, _ := stranger.Responder(t, nil); return u }()}, good, "", fault.Unavailable, "nor by one whom it certified"},
		"signed with SHA-1":                                {object{"ocsp_url": answer(nil, "-rmd", "sha1", "-nmin", "30")}, good, "", fault.Unavailable, "broken"},
		"an old answer":                                    {object{"ocsp_url": keep}, good, "good", nil, ""},
		"an old answer to another question":                {object{"ocsp_url": keep, "ocsp_nonce": true}, good, "", fault.Unavailable, "another question"},
		"an answer about another":                          {object{"ocsp_url": keep}, bad, "", fault.Unavailable, "not about this certificate"},
		"unknown to the responder":                         {object{"ocsp_url": answer(nil)}, unlisted(t, root), "", fault.Unavailable, "does not know"},
		"unreachable":                                      {object{"ocsp_url": "http://127.0.0.1:1/"}, good, "", fault.Unavailable, "cannot be reached"},
		"unreachable, softly":                              {object{"ocsp_url": "http://127.0.0.1:1/", "mode": "soft"}, good, "unknown", nil, ""},
		"it leads elsewhere":                               {object{"ocsp_url": elsewhere}, good, "", fault.Unavailable, "a status other than 200"},
		"it has no end":                                    {object{"ocsp_url": long}, good, "", fault.Unavailable, "longer than 64 KiB"},
		"nonsense":                                         {object{"ocsp_url": broken}, good, "", fault.Unavailable, "cannot be read"},
		"an error":                                         {object{"ocsp_url": wrong}, good, "", fault.Unavailable, "a status other than 200"},
		"broken off":                                       {object{"ocsp_url": cut}, good, "", fault.Unavailable, "broke off"},
		"come again later":                                 {object{"ocsp_url": tryLater}, good, "", fault.Unavailable, "try later"},
		"an address inside, in the certificate":            {object{}, client("authorityInfoAccess=OCSP;URI:http://10.0.0.1/\n"), "", fault.Unauthenticated, "nothing says"},
		"a name that is inside, in the certificate":        {object{}, client("authorityInfoAccess=OCSP;URI:http://localhost.:1/\n"), "", fault.Unavailable, "cannot be reached"},
		"a file, in the certificate":                       {object{}, client("authorityInfoAccess=OCSP;URI:file:///etc/passwd\n"), "", fault.Unauthenticated, "nothing says"},

		"a list says good and nobody answers":     {object{"ocsp_url": "http://127.0.0.1:1/", "crls": []string{root.List(t)}}, good, "good", nil, ""},
		"a list says revoked and nobody answers":  {object{"ocsp_url": "http://127.0.0.1:1/", "crls": []string{root.List(t)}, "mode": "soft"}, bad, "", fault.Unauthenticated, "it was revoked"},
		"a list says good, the responder revoked": {object{"ocsp_url": answer(nil), "crls": []string{root.EmptyList(t)}}, bad, "", fault.Unauthenticated, "it was revoked"},
	} {
		t.Run(name, func(t *testing.T) {
			tc.revocation["ocsp"] = true
			if tc.revocation["mode"] == nil {
				tc.revocation["mode"] = "hard"
			}
			got, err := open(t, object{"ca_pem": bundle(root), "revocation": tc.revocation}).Verify(t.Context(), identity.Proof{Chain: chain(tc.leaf)}, time.Now())
			if tc.word == "" {
				refused(t, err, tc.kind, tc.why)
			} else if err != nil || got.Attributes["revocation"] != tc.word {
				t.Errorf("got %v, %v", got.Attributes["revocation"], err)
			}
		})
	}
}

// unlisted is a certificate that the authority's own books do not hold.
func unlisted(t *testing.T, root *mtlstest.Authority) mtlstest.Identity {
	t.Helper()
	out := root.Issue(t, mtlstest.Request{Subject: john})
	root.Forget(t, out.Cert)
	return out
}

// What a responder says is asked for once, until it ends; one that does not answer is
// left alone for a moment.
func TestAnswersAreKept(t *testing.T) {
	root := mtlstest.NewRoot(t, "root")
	card, second := root.Issue(t, mtlstest.Request{Subject: john}), root.Issue(t, mtlstest.Request{Subject: john})
	url, asked := root.Responder(t, nil) // its answers end after 30 minutes
	v := open(t, object{"ca_pem": bundle(root), "revocation": object{"mode": "hard", "ocsp": true, "ocsp_url": url}})
	begin := time.Now()
	verify := func(leaf mtlstest.Identity, at time.Time, want int) {
		t.Helper()
		if _, err := v.Verify(t.Context(), identity.Proof{Chain: chain(leaf)}, at); err != nil {
			t.Fatal(err)
		}
		if got := asked(); got != want {
			t.Errorf("after %s the responder was asked %d times, want %d", at.Sub(begin), got, want)
		}
	}
	verify(card, time.Now(), 1)
	verify(card, time.Now(), 1)
	verify(card, begin.Add(29*time.Minute), 1)
	verify(second, time.Now(), 2)
	// The clock that an answer is dated by is the machine's, so that its end cannot be
	// waited for: here it is over, and was asked for again.
	if _, err := v.Verify(t.Context(), identity.Proof{Chain: chain(card)}, begin.Add(20*time.Hour)); err == nil || asked() != 3 {
		t.Errorf("asked %d times: %v", asked(), err)
	}

	// Nor is one believed whose time has not come.
	early := open(t, object{"ca_pem": bundle(root), "revocation": object{"mode": "hard", "ocsp": true, "ocsp_url": url}})
	_, err := early.Verify(t.Context(), identity.Proof{Chain: chain(card)}, begin.Add(-30*time.Minute))
	refused(t, err, fault.Unavailable, "answer is not valid yet")

	var tried atomic.Int32
	down := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		tried.Add(1)
		w.WriteHeader(http.StatusServiceUnavailable)
	}))
	defer down.Close()
	v = open(t, object{"ca_pem": bundle(root), "revocation": object{"mode": "hard", "ocsp": true, "ocsp_url": down.URL}})
	for _, leaf := range []mtlstest.Identity{card, second, card} {
		_, err := v.Verify(t.Context(), identity.Proof{Chain: chain(leaf)}, begin)
		refused(t, err, fault.Unavailable, "cannot be found out")
	}
	_, err = v.Verify(t.Context(), identity.Proof{Chain: chain(card)}, begin.Add(6*time.Second))
	refused(t, err, fault.Unavailable, "a status other than 200")
	if n := tried.Load(); n != 2 {
		t.Errorf("a responder that does not answer was asked %d times, want 2", n)
	}
}

func TestCheck(t *testing.T) {
	root := mtlstest.NewRoot(t, "root")
	issuing := root.Under(t, mtlstest.Request{Subject: "/CN=issuing"})
	url, _ := root.Responder(t, nil)
	stale := root.List(t, "-crl_lastupdate", at(time.Now().Add(-3*time.Hour)), "-crl_nextupdate", at(time.Now().Add(-2*time.Hour)))
	for name, tc := range map[string]struct {
		config object
		ok     bool
		says   []string
	}{
		"nothing to look at":      {object{"ca_pem": bundle(root)}, true, []string{"1 of 1 that are believed are valid now", "it is not looked at", "CN=root expires on"}},
		"lists of all":            {object{"ca_pem": bundle(root, issuing), "revocation": object{"mode": "hard", "crls": []string{root.List(t), issuing.List(t)}}}, true, []string{"the list of CN=root is valid until", "the list of CN=issuing is valid until"}},
		"a list is not there":     {object{"ca_pem": bundle(root, issuing), "revocation": object{"mode": "hard", "crls": []string{root.List(t)}}}, false, []string{"there is no list of CN=issuing"}},
		"a list has ended":        {object{"ca_pem": bundle(root), "revocation": object{"mode": "hard", "crls": []string{stale}}}, false, []string{"the list of CN=root ended at"}},
		"with grace":              {object{"ca_pem": bundle(root), "revocation": object{"mode": "hard", "crls": []string{stale}, "crl_grace": "24h"}}, true, []string{"and is believed until"}},
		"a responder":             {object{"ca_pem": bundle(root, issuing), "revocation": object{"mode": "hard", "ocsp": true, "ocsp_url": url}}, true, []string{"the responder answers about CN=issuing"}},
		"a responder, no example": {object{"ca_pem": bundle(root), "revocation": object{"mode": "hard", "ocsp": true, "ocsp_url": url}}, true, []string{"the responder answers"}},
		"no responder there":      {object{"ca_pem": bundle(root), "revocation": object{"mode": "hard", "ocsp": true, "ocsp_url": "http://127.0.0.1:1/"}}, false, []string{"cannot be reached"}},
		"no address known":        {object{"ca_pem": bundle(root), "revocation": object{"mode": "hard", "ocsp": true}}, true, []string{"none was asked"}},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := open(t, tc.config).Check(t.Context())
			if err != nil || got.OK != tc.ok {
				t.Errorf("got %+v, %v", got, err)
			}
			var all []string
			for _, f := range got.Findings {
				all = append(all, f.Detail)
			}
			text := strings.Join(all, "\n")
			for _, want := range tc.says {
				if !strings.Contains(text, want) {
					t.Errorf("it does not say %q:\n%s", want, text)
				}
			}
			if strings.Contains(text, "127.0.0.1") {
				t.Errorf("it tells an address:\n%s", text)
			}
		})
	}
}
