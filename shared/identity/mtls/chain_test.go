package mtls_test

import (
	"crypto/x509"
	"strings"
	"testing"
	"time"

	"github.com/defenseunicorns/peat-gateway/shared/identity"
	"github.com/defenseunicorns/peat-gateway/shared/identity/mtls/mtlstest"
	"github.com/defenseunicorns/peat-gateway/shared/platform/fault"
)

// What is wrong with each of these is one thing; see the first for what is right.
func TestChains(t *testing.T) {
	day := 24 * time.Hour
	now := time.Now()
	root := mtlstest.NewRoot(t, "root")
	issuing := root.Under(t, mtlstest.Request{Subject: "/CN=issuing"})
	below := mtlstest.NewRoot(t, "another root of the same organization")
	stranger := mtlstest.NewRoot(t, "root") // the name is the same, the key is not
	strangersIssuing := stranger.Under(t, mtlstest.Request{Subject: "/CN=issuing"})
	expiredIssuing := root.Under(t, mtlstest.Request{Subject: "/CN=issuing of old", Start: now.Add(-9 * day), End: now.Add(-day)})
	// pathlen:0 forbids an authority below, which openssl makes all the same.
	tooDeep := issuing.Under(t, mtlstest.Request{Subject: "/CN=too deep"})
	noCertSign := root.Under(t, mtlstest.Request{Subject: "/CN=no authority", Extensions: mtlstest.Client})
	serversOnly := root.Under(t, mtlstest.Request{Subject: "/CN=servers", Extensions: mtlstest.Intermediate + "extendedKeyUsage=serverAuth\n"})
	namesOnly := root.Under(t, mtlstest.Request{Subject: "/CN=names", Extensions: mtlstest.Intermediate + "nameConstraints=critical,permitted;email:mail.mil\n"})
	directory := root.Under(t, mtlstest.Request{Subject: "/CN=directory",
		Extensions: mtlstest.Intermediate + "nameConstraints=critical,permitted;dirName:dn_of\n[dn_of]\nC=US\n"})
	odd := root.Under(t, mtlstest.Request{Subject: "/CN=odd", Extensions: mtlstest.Intermediate + "1.2.3.4=critical,ASN1:NULL\n"})
	policy := root.Under(t, mtlstest.Request{Subject: "/CN=policy", Extensions: mtlstest.Intermediate + "certificatePolicies=1.2.3.1\n"})
	rsa := mtlstest.NewRootOf(t, mtlstest.Request{Subject: "/CN=rsa", Key: "rsa:2048"})
	deep1 := root.Under(t, mtlstest.Request{Subject: "/CN=deep 1", Extensions: strings.ReplaceAll(mtlstest.Intermediate, ",pathlen:0", "")})
	deep2 := deep1.Under(t, mtlstest.Request{Subject: "/CN=deep 2"})

	with := func(a *mtlstest.Authority, r mtlstest.Request) mtlstest.Identity {
		if r.Subject == "" {
			r.Subject = john
		}
		return a.Issue(t, r)
	}
	plain := mtlstest.Request{}
	ext := func(lines string) mtlstest.Request { return mtlstest.Request{Extensions: lines} }
	client := mtlstest.Client
	// A self-signed client says that it is no authority, and is one for openssl.
	own := mtlstest.NewRootOf(t, mtlstest.Request{Subject: john, Extensions: client})
	// Some openssl refuse to sign with MD5 or SHA-1 at all; these do so by their default provider.
	md5 := with(rsa, mtlstest.Request{Digest: "md5"})
	sha1 := with(rsa, mtlstest.Request{Digest: "sha1"})
	sha1Issuing := rsa.Under(t, mtlstest.Request{Subject: "/CN=sha1", Digest: "sha1"})

	card := with(issuing, plain)
	for name, tc := range map[string]struct {
		config object
		chain  []*x509.Certificate
		at     time.Duration
		why    string // empty: it is taken
	}{
		"right":                                    {chain: chain(card, issuing)},
		"right, with the root sent along":          {chain: chain(card, issuing, root)},
		"right, in another order":                  {chain: chain(card, root, issuing)},
		"right, with others sent along":            {chain: chain(card, stranger, issuing, deep1)},
		"right, the authority between is known":    {config: object{"ca_pem": bundle(root, issuing)}, chain: chain(card)},
		"right, of the other root":                 {chain: chain(with(below, plain))},
		"right, the authority between is believed": {config: object{"ca_pem": bundle(issuing), "anchors": "all"}, chain: chain(card)},
		"right, and as long as may be":             {config: object{"max_chain": 4}, chain: chain(with(deep2, plain), deep2, deep1)},
		"right, signed by RSA":                     {config: object{"ca_pem": bundle(rsa)}, chain: chain(with(rsa, plain))},

		"nothing":                                 {chain: []*x509.Certificate{}, why: "none was shown"},
		"the authority between is not there":      {chain: chain(card), why: "none of the provider's authorities"},
		"signed by a stranger":                    {chain: chain(with(stranger, plain)), why: "none of the provider's authorities"},
		"signed by a stranger who is sent along":  {chain: chain(with(stranger, plain), stranger), why: "none of the provider's authorities"},
		"signed below a stranger":                 {chain: chain(with(strangersIssuing, plain), strangersIssuing, issuing, root), why: "none of the provider's authorities"},
		"signed by itself":                        {chain: []*x509.Certificate{own.Cert}, why: "signed by itself"},
		"signed by itself, and a good one behind": {chain: append([]*x509.Certificate{own.Cert}, chain(card, issuing)...), why: "signed by itself"},
		"a sibling of what is believed":           {config: object{"ca_pem": bundle(issuing), "anchors": "all"}, chain: chain(with(root, plain), root), why: "none of the provider's authorities"},
		"expired":                                 {chain: chain(with(issuing, mtlstest.Request{Start: now.Add(-2 * day), End: now.Add(-time.Minute)}), issuing), why: "it has expired"},
		"expires at this moment":                  {chain: chain(card, issuing), at: 25 * time.Hour, why: "expired"},
		"not yet valid":                           {chain: chain(with(issuing, mtlstest.Request{Start: now.Add(time.Hour), End: now.Add(day)}), issuing), why: "not valid yet"},
		"an authority that has expired":           {chain: chain(with(expiredIssuing, plain), expiredIssuing), why: "an authority in its chain has expired"},
		"path too long":                           {chain: chain(with(tooDeep, plain), tooDeep, issuing), why: "too far above it"},
		"longer than the provider takes":          {config: object{"max_chain": 3}, chain: chain(with(deep2, plain), deep2, deep1), why: "longer than 3"},
		"signed by another client":                {chain: chain(with(noCertSign, plain), noCertSign), why: "none of the provider's authorities"},
		"an authority itself":                     {chain: chain(mtlstest.Identity{Cert: issuing.Cert}), why: "it is an authority's"},
		"wrong EKU":                               {chain: chain(with(issuing, ext("basicConstraints=CA:FALSE\nkeyUsage=digitalSignature\nextendedKeyUsage=serverAuth\n")), issuing), why: "lacks client_auth"},
		"any EKU is not the one":                  {chain: chain(with(issuing, ext("basicConstraints=CA:FALSE\nkeyUsage=digitalSignature\nextendedKeyUsage=anyExtendedKeyUsage\n")), issuing), why: "lacks client_auth"},
		"no EKU at all":                           {chain: chain(with(issuing, ext("basicConstraints=CA:FALSE\nkeyUsage=digitalSignature\n")), issuing), why: "lacks client_auth"},
		"one of two EKUs":                         {config: object{"ekus": []string{"client_auth", "1.3.6.1.4.1.311.20.2.2"}}, chain: chain(card, issuing), why: "lacks 1.3.6.1.4.1.311.20.2.2"},
		"an authority for servers":                {chain: chain(with(serversOnly, plain), serversOnly), why: "may not give the extended key usage"},
		"a key for encryption":                    {chain: chain(with(issuing, ext("basicConstraints=CA:FALSE\nkeyUsage=keyEncipherment\nextendedKeyUsage=clientAuth\n")), issuing), why: "digitalSignature"},
		"name constraints kept":                   {chain: chain(with(namesOnly, ext(client+"subjectAltName=email:a@mail.mil\n")), namesOnly)},
		"name constraints violated":               {chain: chain(with(namesOnly, ext(client+"subjectAltName=email:a@elsewhere.example\n")), namesOnly), why: "may not give its names"},
		"name constraints that are not read":      {chain: chain(with(directory, plain), directory), why: "client certificate: "},
		"a critical extension of the authority":   {chain: chain(with(odd, plain), odd), why: "client certificate: "},
		"a critical extension of its own":         {chain: chain(with(issuing, ext(client+"1.2.3.4=critical,ASN1:NULL\n")), issuing), why: "critical extension"},
		"a critical name that is read here":       {chain: chain(with(issuing, ext(client+"subjectAltName=critical,otherName:1.3.6.1.4.1.311.20.2.3;UTF8:a@mil\n")), issuing)},
		"MD5":                                     {config: object{"ca_pem": bundle(rsa)}, chain: chain(md5), why: "broken"},
		"SHA-1":                                   {config: object{"ca_pem": bundle(rsa)}, chain: chain(sha1), why: "broken"},
		"SHA-1 above":                             {config: object{"ca_pem": bundle(rsa)}, chain: chain(with(sha1Issuing, plain), sha1Issuing), why: "broken"},
		"SHA-1 above, in the bundle":              {config: object{"ca_pem": bundle(rsa, sha1Issuing)}, chain: chain(with(sha1Issuing, plain)), why: "broken"},
		"a short key":                             {chain: chain(with(issuing, mtlstest.Request{Key: "rsa:1024"}), issuing), why: "too weak"},
		"a key that takes for ever":               {chain: []*x509.Certificate{hugeKey(card.Cert)}, why: "too weak"},
		"more than anybody needs":                 {chain: chain(card, issuing, issuing, issuing, issuing, issuing, issuing, issuing, issuing, issuing, issuing), why: "more than 10"},
		"a policy that is asked for":              {config: object{"policies": []string{"1.2.3.1"}}, chain: chain(with(policy, ext(client+"certificatePolicies=1.2.3.1\n")), policy)},
		"another policy":                          {config: object{"policies": []string{"1.2.3.1"}}, chain: chain(with(policy, ext(client+"certificatePolicies=1.2.3.2\n")), policy), why: "policies"},
		"a policy that its authority has not":     {config: object{"policies": []string{"1.2.3.2"}}, chain: chain(with(policy, ext(client+"certificatePolicies=1.2.3.2\n")), policy), why: "policies"},
		"no policy":                               {config: object{"policies": []string{"1.2.3.1"}}, chain: chain(card, issuing), why: "policies"},
	} {
		t.Run(name, func(t *testing.T) {
			config := object{"ca_pem": bundle(root, below)}
			for k, v := range tc.config {
				config[k] = v
			}
			got, err := open(t, config).Verify(t.Context(), identity.Proof{Chain: tc.chain}, now.Add(tc.at))
			if tc.why != "" {
				refused(t, err, fault.Unauthenticated, tc.why)
				return
			}
			if err != nil || got.Subject != "1234567890" {
				t.Errorf("got %q, %v", got.Subject, err)
			}
		})
	}
}

// hugeKey is a certificate with a key of far too many bits.
func hugeKey(like *x509.Certificate) *x509.Certificate {
	c := *like
	c.PublicKey = hugeRSA
	return &c
}

// An authority that two roots have certified leads to either; the session ends with the
// first certificate of the way that is taken.
func TestCrossSigned(t *testing.T) {
	now := time.Now()
	old, young := mtlstest.NewRoot(t, "old"), mtlstest.NewRoot(t, "young")
	issuing := old.Under(t, mtlstest.Request{Subject: "/CN=issuing", End: now.Add(2 * time.Hour)})
	cross := parse(t, issuing.Again(t, young, mtlstest.Request{End: now.Add(5 * time.Hour)}))
	card := issuing.Issue(t, mtlstest.Request{Subject: john})
	proof := identity.Proof{Chain: []*x509.Certificate{card.Cert, cross, issuing.Cert}}

	for name, tc := range map[string]struct {
		roots string
		at    time.Duration
		ends  *x509.Certificate // nil: it is refused
	}{
		"to the old root":                       {bundle(old), 0, issuing.Cert},
		"to the young root":                     {bundle(young), 0, cross},
		"to the old root, whose word has ended": {bundle(old), 3 * time.Hour, nil},
		"to either, one of which has ended":     {bundle(old, young), 3 * time.Hour, cross},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := open(t, object{"ca_pem": tc.roots}).Verify(t.Context(), proof, now.Add(tc.at))
			if tc.ends == nil {
				refused(t, err, fault.Unauthenticated, "an authority in its chain has expired")
				return
			}
			if err != nil || !got.ExpiresAt.Equal(tc.ends.NotAfter) {
				t.Errorf("ends %s, want %s: %v", got.ExpiresAt, tc.ends.NotAfter, err)
			}
		})
	}

	// Revoked on one way, it is still good on the other.
	old.Revoke(t, issuing.Cert)
	config := object{"ca_pem": bundle(old, young), "revocation": object{"mode": "soft", "crls": []string{old.List(t)}}}
	if _, err := open(t, config).Verify(t.Context(), proof, now); err != nil {
		t.Errorf("the other way: %v", err)
	}
	config["ca_pem"] = bundle(old)
	_, err := open(t, config).Verify(t.Context(), proof, now)
	refused(t, err, fault.Unauthenticated, "an authority in its chain was revoked")
}

func TestNames(t *testing.T) {
	root := mtlstest.NewRoot(t, "root")
	upn := func(all ...string) string {
		san := "subjectAltName=email:x@y.example"
		for _, u := range all {
			san += ",otherName:1.3.6.1.4.1.311.20.2.3;" + u
		}
		return mtlstest.Client + san + "\n"
	}
	for name, tc := range map[string]struct {
		by, subject, extensions string
		want                    string // empty: it is refused
		why                     string
	}{
		"three names":                       {by: "edipi", subject: john, want: "1234567890"},
		"two names":                         {by: "edipi", subject: "/CN=DOE.JOHN.1234567890", want: "1234567890"},
		"with a suffix":                     {by: "edipi", subject: "/CN=DOE.JOHN.Q.JR.1234567890", want: "1234567890"},
		"with letters of its own":           {by: "edipi", subject: "/CN=O'NEIL-MÜLLER.ANNE MARIE.1234567890", want: "1234567890"},
		"the number alone":                  {by: "edipi", subject: "/CN=1234567890", why: "not of the form"},
		"one name":                          {by: "edipi", subject: "/CN=DOE.1234567890", why: "not of the form"},
		"nine digits":                       {by: "edipi", subject: "/CN=DOE.JOHN.Q.123456789", why: "not of the form"},
		"eleven digits":                     {by: "edipi", subject: "/CN=DOE.JOHN.Q.12345678901", why: "not of the form"},
		"two numbers":                       {by: "edipi", subject: "/CN=DOE.9999999999.1234567890", why: "not of the form"},
		"digits of another script":          {by: "edipi", subject: "/CN=DOE.JOHN.Q.١٢٣٤٥٦٧٨٩٠", why: "not of the form"},
		"something behind":                  {by: "edipi", subject: "/CN=DOE.JOHN.Q.1234567890 ", why: "not of the form"},
		"a name in the name":                {by: "edipi", subject: `/CN=X,CN\=DOE.JOHN.Q.1234567890`, why: "not of the form"},
		"an empty name":                     {by: "edipi", subject: "/CN=DOE..1234567890", why: "not of the form"},
		"no common name":                    {by: "edipi", subject: "/O=DOE.JOHN.Q.1234567890", why: "no common name, or several"},
		"doubled, the other first":          {by: "edipi", subject: "/CN=EVIL.EVE.E.6666666666/CN=DOE.JOHN.Q.1234567890", why: "no common name, or several"},
		"doubled, the other last":           {by: "edipi", subject: "/CN=DOE.JOHN.Q.1234567890/CN=EVIL.EVE.E.6666666666", why: "no common name, or several"},
		"doubled in one part":               {by: "edipi", subject: "/CN=EVIL.EVE.E.6666666666+CN=DOE.JOHN.Q.1234567890", why: "no common name, or several"},
		"a character that is not seen":      {by: "edipi", subject: "/CN=DOE.JOHN\u200b.Q.1234567890", why: "not text"},
		"one that turns the writing":        {by: "cn", subject: "/CN=\u202ecba", why: "not text"},
		"a UPN":                             {by: "upn", subject: "/CN=x", extensions: upn("UTF8:A@Mil"), want: "a@mil"},
		"no UPN":                            {by: "upn", subject: "/CN=x", why: "no user principal name, or several"},
		"two UPNs":                          {by: "upn", subject: "/CN=x", extensions: upn("UTF8:a@mil", "UTF8:b@mil"), why: "no user principal name, or several"},
		"an empty UPN":                      {by: "upn", subject: "/CN=x", extensions: upn("UTF8:"), why: "no user principal name, or several"},
		"a UPN of another type":             {by: "upn", subject: "/CN=x", extensions: upn("IA5:a@mil"), why: "alternative names cannot be read"},
		"another name of the other kind":    {by: "upn", subject: "/CN=x", extensions: mtlstest.Client + "subjectAltName=otherName:1.2.3.4;UTF8:a@mil\n", why: "no user principal name, or several"},
		"a UPN that is too long":            {by: "upn", subject: "/CN=x", extensions: upn("UTF8:" + strings.Repeat("a", 600)), why: "longer than 512"},
		"two e-mail addresses":              {by: "email", subject: "/CN=x", extensions: mtlstest.Client + "subjectAltName=email:a@b.example,email:c@d.example\n", why: "no e-mail address, or several"},
		"an e-mail address in the subject":  {by: "email", subject: "/CN=x/emailAddress=a@b.example", why: "no e-mail address, or several"},
		"a URI":                             {by: "uri", subject: "/CN=x", extensions: mtlstest.Client + "subjectAltName=URI:spiffe://corp.example/node/7\n", want: "spiffe://corp.example/node/7"},
		"two URIs":                          {by: "uri", subject: "/CN=x", extensions: mtlstest.Client + "subjectAltName=URI:spiffe://a.example/1,URI:spiffe://a.example/2\n", why: "no URI, or several"},
		"a subject that is a whole address": {by: "dn", subject: "/C=US/O=a, b/CN=c", want: `CN=c,O=a\, b,C=US`},
		"more names than are taken":         {by: "cn", subject: "/CN=x", extensions: mtlstest.Client + "subjectAltName=" + strings.Repeat("DNS:"+strings.Repeat("a.", 100)+"example,", 90) + "DNS:z.example\n", why: "longer than 16 KiB"},
	} {
		t.Run(name, func(t *testing.T) {
			card := root.Issue(t, mtlstest.Request{Subject: tc.subject, Extensions: tc.extensions})
			got, err := open(t, object{"ca_pem": bundle(root), "subject": tc.by}).Verify(t.Context(), identity.Proof{Chain: chain(card)}, time.Now())
			if tc.want == "" {
				refused(t, err, fault.Unauthenticated, tc.why)
			} else if err != nil || got.Subject != tc.want {
				t.Errorf("got %q, %v", got.Subject, err)
			}
		})
	}
}
