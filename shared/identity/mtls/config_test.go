package mtls_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/defenseunicorns/peat-gateway/shared/identity/mtls"
	"github.com/defenseunicorns/peat-gateway/shared/identity/mtls/mtlstest"
	"github.com/defenseunicorns/peat-gateway/shared/platform/fault"
)

func TestParse(t *testing.T) {
	root := mtlstest.NewRoot(t, "root")
	issuing := root.Under(t, mtlstest.Request{Subject: "/CN=issuing"})
	stranger := mtlstest.NewRoot(t, "stranger")
	weak := mtlstest.NewRootOf(t, mtlstest.Request{Subject: "/CN=weak", Key: "rsa:1024"})
	unnamed := mtlstest.NewRootOf(t, mtlstest.Request{Subject: "/CN=" + strings.Repeat("a", 60) + strings.Repeat("/O="+strings.Repeat("b", 60), 4)})
	card := root.Issue(t, mtlstest.Request{Subject: john})
	rsa := mtlstest.NewRootOf(t, mtlstest.Request{Subject: "/CN=rsa", Key: "rsa:2048"})

	revocation := func(r object) object { return object{"revocation": r} }
	crl := func(texts ...string) object { return revocation(object{"mode": "hard", "crls": texts}) }
	for name, tc := range map[string]struct {
		change  object
		pointer string // empty: it is taken
		says    string
	}{
		"the least":                              {object{}, "", ""},
		"with an issuer":                         {object{"issuer": "urn:corp:devices"}, "", ""},
		"a misspelt option":                      {object{"max_chian": 3}, "/config/max_chian", ""},
		"no authority":                           {object{"ca_pem": ""}, "/config/ca_pem", "no certificate"},
		"nonsense":                               {object{"ca_pem": "hello"}, "/config/ca_pem", "no certificate"},
		"an authority of the wrong kind":         {object{"ca_pem": string(card.CertPEM)}, "/config/ca_pem", "no authority's"},
		"a key beside the certificate":           {object{"ca_pem": bundle(root) + string(card.KeyPEM)}, "/config/ca_pem", "other than certificates"},
		"a weak authority":                       {object{"ca_pem": bundle(weak)}, "/config/ca_pem", "too weak"},
		"PEM of nonsense":                        {object{"ca_pem": "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"}, "/config/ca_pem", "cannot be read, number 1"},
		"no root":                                {object{"ca_pem": bundle(issuing)}, "/config/ca_pem", "no root"},
		"no root, and none is needed":            {object{"ca_pem": bundle(issuing), "anchors": "all"}, "", ""},
		"far too long":                           {object{"ca_pem": strings.Repeat(bundle(root), 1000)}, "/config/ca_pem", "longer than 256 KiB"},
		"far too many":                           {object{"ca_pem": strings.Repeat(bundle(root), 201)}, "/config/ca_pem", "more than 200"},
		"a name that cannot stand for it":        {object{"ca_pem": bundle(unnamed)}, "/config/issuer", "is needed"},
		"anchors of no kind":                     {object{"anchors": "some"}, "/config/anchors", ""},
		"no chain":                               {object{"max_chain": 0}, "/config/max_chain", ""},
		"a long chain":                           {object{"max_chain": 9}, "/config/max_chain", ""},
		"no subject":                             {object{"subject": ""}, "/config/subject", "cn, dn, edipi, email, serial, upn, uri"},
		"an unknown subject":                     {object{"subject": "nickname"}, "/config/subject", ""},
		"groups from elsewhere":                  {object{"groups": "cn"}, "/config/groups", ""},
		"an issuer that is not text":             {object{"issuer": "a\u200bb"}, "/config/issuer", ""},
		"an issuer without end":                  {object{"issuer": strings.Repeat("a", 256)}, "/config/issuer", ""},
		"a usage by OID":                         {object{"ekus": []string{"1.2.3.4"}}, "", ""},
		"no usage":                               {object{"ekus": []string{}}, "", ""},
		"an unknown usage":                       {object{"ekus": []string{"client_auth", "everything"}}, "/config/ekus/1", ""},
		"far too many usages":                    {object{"ekus": strings.Split(strings.Repeat("1.2.3 ", 40), " ")}, "/config", "more than 32"},
		"a policy that is none":                  {object{"policies": []string{"id-fpki"}}, "/config/policies/0", ""},
		"strength by a policy that is none":      {object{"assurance": []object{{"policy": "1"}}}, "/config/assurance/0/policy", ""},
		"strength that is not text":              {object{"assurance": []object{{"policy": "1.2.3", "amr": []string{"\x00"}}}}, "/config/assurance/0", ""},
		"nothing of revocations":                 {revocation(object{}), "/config/revocation/mode", "is missing"},
		"an unknown mode":                        {revocation(object{"mode": "maybe"}), "/config/revocation/mode", ""},
		"an unknown scope":                       {revocation(object{"mode": "hard", "ocsp": true, "scope": "some"}), "/config/revocation/scope", ""},
		"hard, and nothing to find out with":     {revocation(object{"mode": "hard"}), "/config/revocation/mode", "neither crls, crl_files nor ocsp"},
		"off, and something to find out with":    {revocation(object{"mode": "off", "ocsp": true}), "/config/revocation/mode", "must not be off"},
		"bounded by nothing":                     {revocation(object{"mode": "off", "bounds_session": true}), "/config/revocation/bounds_session", ""},
		"grace without end":                      {revocation(object{"mode": "hard", "ocsp": true, "crl_grace": "9000h"}), "/config/revocation/crl_grace", ""},
		"grace below zero":                       {revocation(object{"mode": "hard", "ocsp": true, "crl_grace": "-1h"}), "/config/revocation/crl_grace", ""},
		"a responder":                            {revocation(object{"mode": "soft", "ocsp": true, "ocsp_url": "http://ocsp.example/"}), "", ""},
		"a responder that is not asked":          {revocation(object{"mode": "hard", "crls": []string{root.List(t)}, "ocsp_url": "http://ocsp.example/"}), "/config/revocation/ocsp", ""},
		"a responder inside":                     {revocation(object{"mode": "soft", "ocsp": true, "ocsp_url": "http://10.0.0.1/"}), "/config/revocation/ocsp_url", ""},
		"a responder by another way":             {revocation(object{"mode": "soft", "ocsp": true, "ocsp_url": "ldap://ocsp.example/"}), "/config/revocation/ocsp_url", ""},
		"a list":                                 {crl(root.List(t)), "", ""},
		"a list that is none":                    {crl("hello"), "/config/revocation/crls/0", "neither PEM nor DER"},
		"a list of nothing":                      {crl(""), "/config/revocation/crls/0", "neither PEM nor DER"},
		"a certificate for a list":               {crl(root.List(t), bundle(root)), "/config/revocation/crls/1", "other than lists"},
		"a list of a stranger":                   {crl(stranger.List(t)), "/config/revocation/crls/0", "no authority of ca_pem"},
		"a list that was changed":                {crl(tampered(t, root.List(t))), "/config/revocation/crls/0", ""},
		"a list with a broken signature":         {object{"ca_pem": bundle(rsa), "revocation": object{"mode": "hard", "crls": []string{rsa.List(t, "-md", "sha1")}}}, "/config/revocation/crls/0", "broken"},
		"a delta":                                {crl(root.ListWith(t, "2.5.29.27=critical,DER:020101")), "/config/revocation/crls/0", "deltas"},
		"an indirect list":                       {crl(root.ListWith(t, "issuingDistributionPoint=critical,@p\n[p]\nindirectCRL=TRUE")), "/config/revocation/crls/0", "indirect"},
		"a list of some reasons":                 {crl(root.ListWith(t, "issuingDistributionPoint=critical,@p\n[p]\nonlysomereasons=keyCompromise")), "/config/revocation/crls/0", "some reasons"},
		"a list of attribute certificates":       {crl(root.ListWith(t, "issuingDistributionPoint=critical,@p\n[p]\nonlyAA=TRUE")), "/config/revocation/crls/0", "indirect"},
		"a list with something critical and odd": {crl(root.ListWith(t, "1.2.3.4=critical,ASN1:NULL")), "/config/revocation/crls/0", "critical"},
		"lists far too long":                     {crl(strings.Repeat("A", 300<<10)), "/config/revocation/crls/0", "longer than 256 KiB"},
		"lists far too many":                     {crl(make([]string, 65)...), "/config/revocation/crls", "at most 64"},
	} {
		t.Run(name, func(t *testing.T) {
			config := object{"ca_pem": bundle(root), "subject": "edipi", "revocation": object{"mode": "off"}}
			for k, v := range tc.change {
				config[k] = v
			}
			in, err := json.Marshal(config)
			if err != nil {
				t.Fatal(err)
			}
			_, err = mtls.Parse(in, nil, elsewhere)
			if tc.pointer == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			f := fault.Of(err)
			if !errors.Is(err, fault.Invalid) || len(f.Fields) == 0 || f.Fields[0].Pointer != tc.pointer || !strings.Contains(f.Message, tc.says) {
				t.Errorf("got %v %+v, want %s %q", err, f, tc.pointer, tc.says)
			}
		})
	}
	for name, in := range map[string]string{"nothing": "", "null": "null", "a list": "[]", "not JSON": "{"} {
		if _, err := mtls.Parse(json.RawMessage(in), nil, elsewhere); fault.Of(err) == nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// tampered is a list with one bit turned, near the end, where the signature is.
func tampered(t *testing.T, list string) string {
	t.Helper()
	lines := strings.Split(strings.TrimSpace(list), "\n")
	last := []byte(lines[len(lines)-2])
	i := len(last) / 2
	if last[i] == 'A' {
		last[i] = 'B'
	} else {
		last[i] = 'A'
	}
	lines[len(lines)-2] = string(last)
	return strings.Join(lines, "\n")
}
