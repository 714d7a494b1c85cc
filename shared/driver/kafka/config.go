package kafka

import (
	"bytes"
	"encoding/json"
	"slices"
	"strings"

	"github.com/segmentio/kafka-go/sasl"
	"github.com/segmentio/kafka-go/sasl/plain"
	"github.com/segmentio/kafka-go/sasl/scram"

	"github.com/defenseunicorns/peat-gateway/shared/driver"
	"github.com/defenseunicorns/peat-gateway/shared/platform/fault"
	"github.com/defenseunicorns/peat-gateway/shared/platform/netguard"
	"github.com/defenseunicorns/peat-gateway/shared/platform/web"
)

// kafkaConfig is what a Kafka sink shows.
type kafkaConfig struct {
	Brokers []string   `json:"brokers"`
	Topic   string     `json:"topic"` // {org} and {app} stand for their names
	TLS     *kafkaTLS  `json:"tls,omitempty"`
	SASL    *kafkaSASL `json:"sasl,omitempty"`
}

// kafkaTLS is true, which is TLS as usual, or an object with options. False is as
// if it were not there.
type kafkaTLS struct {
	Off     bool
	Options *driver.TLSConfig // nil: as usual
}

func (t *kafkaTLS) UnmarshalJSON(in []byte) error {
	switch text := bytes.TrimSpace(in); string(text) {
	case "true", "false":
		t.Off = text[0] == 'f'
		return nil
	default:
		if len(text) == 0 || text[0] != '{' {
			return &fault.Error{
				Kind: fault.Invalid, Message: "tls must be true, false or an object",
				Fields: []fault.Field{{Pointer: "/tls", Detail: "must be true, false or an object"}},
			}
		}
	}
	t.Options = &driver.TLSConfig{}
	err := web.DecodeJSON(in, t.Options)
	f := fault.Of(err)
	if f == nil {
		return err
	}
	inside := *f
	inside.Message, inside.Fields = "tls: "+f.Message, slices.Clone(f.Fields)
	for i := range inside.Fields {
		inside.Fields[i].Pointer = "/tls" + inside.Fields[i].Pointer
	}
	return &inside
}

func (t kafkaTLS) MarshalJSON() ([]byte, error) {
	if t.Options == nil {
		return json.Marshal(!t.Off)
	}
	return json.Marshal(t.Options)
}

// kafkaSASL is who we are. The password is here only on its way in.
type kafkaSASL struct {
	Mechanism string `json:"mechanism"`
	Username  string `json:"username"`
	Password  string `json:"password,omitempty"`
}

// kafkaSecrets is what it keeps sealed.
type kafkaSecrets struct {
	Password  string `json:"password,omitempty"`
	ClientKey string `json:"client_key,omitempty"`
}

const (
	maxBrokers     = 20
	maxTopic       = 249 // by Kafka
	maxCredentials = 256
)

// Parse checks the configuration of a Kafka sink.
func Parse(in json.RawMessage, prior []byte, s driver.Settings) (driver.Config, error) {
	var c kafkaConfig
	var kept, secrets kafkaSecrets
	if err := driver.DecodeConfig(in, &c); err != nil {
		return driver.Config{}, err
	}
	if err := driver.Prior(prior, &kept); err != nil {
		return driver.Config{}, err
	}
	if len(c.Brokers) == 0 || len(c.Brokers) > maxBrokers {
		return driver.Config{}, driver.Invalid("config/brokers", "must be one to 20 brokers")
	}
	for _, b := range c.Brokers {
		if err := checkBroker(b, netguard.New(s.AllowPrivate)); err != nil {
			return driver.Config{}, err
		}
	}
	if !isTemplate(c.Topic) {
		return driver.Config{}, driver.Invalid("config/topic", "must be letters, digits, '.', '-', '_', {org} and {app}, at most 249")
	}
	var err error
	if c.TLS != nil && c.TLS.Off {
		c.TLS = nil
	}
	if c.TLS != nil && c.TLS.Options != nil {
		if secrets.ClientKey, err = c.TLS.Options.Parse(kept.ClientKey, s.Now()); err != nil {
			return driver.Config{}, err
		}
	}
	if c.SASL != nil {
		if secrets.Password, err = c.SASL.parse(kept.Password); err != nil {
			return driver.Config{}, err
		}
	}
	out := driver.Config{Public: c}
	if secrets != (kafkaSecrets{}) {
		out.Secrets = secrets
	}
	return out, nil
}

// checkBroker reads one host and port. The brokers that these name in turn are
// looked at when they are dialled.
func checkBroker(b string, g *netguard.Guard) error {
	u, err := g.URL("kafka://"+b, "kafka")
	if err != nil {
		return driver.Invalid("config/brokers", err.Error())
	}
	if u.Host != b || u.Port() == "" {
		return driver.Invalid("config/brokers", "must each be a host and a port")
	}
	return nil
}

func expandTopic(template, org, app string) string {
	return strings.NewReplacer("{org}", org, "{app}", app).Replace(template)
}

// isTemplate reports whether a topic's name follows from the template for names
// that are short enough.
func isTemplate(s string) bool { return isTopic(expandTopic(s, "x", "x")) }

func isTopic(s string) bool {
	bad := strings.ContainsFunc(s, func(r rune) bool { return r > 0x7f || !driver.IsPlain(byte(r)) && r != '.' })
	return !bad && s != "" && s != "." && s != ".." && len(s) <= maxTopic
}

// parse takes the password out, to be sealed; it stays what it was if it is left
// out.
func (c *kafkaSASL) parse(prior string) (password string, err error) {
	password, c.Password = c.Password, ""
	if password == "" || password == driver.Sealed {
		password = prior
	}
	if c.Username == "" || password == "" || len(c.Username) > maxCredentials || len(password) > maxCredentials {
		return "", driver.Invalid("config/sasl", "must have a username and a password of at most 256 bytes")
	}
	if _, err := c.mechanism(password); err != nil {
		return "", err
	}
	return password, nil
}

func (c *kafkaSASL) mechanism(password string) (sasl.Mechanism, error) {
	var m sasl.Mechanism
	var err error
	switch c.Mechanism {
	case "plain":
		if strings.Contains(c.Username+password, "\x00") {
			return nil, driver.Invalid("config/sasl", "has a username or password with characters that PLAIN does not know")
		}
		return plain.Mechanism{Username: c.Username, Password: password}, nil
	case "scram-sha-256":
		m, err = scram.Mechanism(scram.SHA256, c.Username, password)
	case "scram-sha-512":
		m, err = scram.Mechanism(scram.SHA512, c.Username, password)
	default:
		return nil, driver.Invalid("config/sasl/mechanism", "must be plain, scram-sha-256 or scram-sha-512")
	}
	if err != nil {
		return nil, driver.Invalid("config/sasl", "has a username or password with characters that SCRAM does not know")
	}
	return m, nil
}
