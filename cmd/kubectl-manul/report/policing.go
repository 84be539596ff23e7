package report

import (
	"fmt"
	"io"
	"strings"

	"github.com/manul-net/manul/api/v1alpha1"
	"github.com/manul-net/manul/cmd/kubectl-manul/policing"
)

// Policing is the report on what policies do with a packet.
type Policing struct {
	policing.Answer `json:",inline"`

	// Asked is the question in words: "TCP port 8080".
	Asked string `json:"asked"`
}

// Text is a line for each decision, and the outcome.
func (p *Policing) Text(w io.Writer) error {
	if _, err := fmt.Fprintf(w, "%s -> %s, %s\n\n", endOf(p.From), endOf(p.To), p.Asked); err != nil {
		return err
	}
	var rows [][]string
	for i := range p.Steps {
		s := &p.Steps[i]
		rows = append(rows, []string{s.Node, placeOf(s), s.Direction, decided(s.Allowed), because(s)})
	}
	if len(rows) > 0 {
		if err := table(w, []string{"NODE", "WHOSE POLICY", "DIRECTION", "DECISION", "BECAUSE"}, rows); err != nil {
			return err
		}
		if _, err := fmt.Fprintln(w); err != nil {
			return err
		}
	}
	outcome := "Allowed: no policy stands in the packet's way."
	if last := len(p.Steps) - 1; !p.Allowed && last >= 0 {
		outcome = fmt.Sprintf("Denied on %s.", p.Steps[last].Node)
	}
	if len(p.Behind) > 0 {
		outcome += " That is what the operator has rendered; not all of it is in effect on " + strings.Join(p.Behind, ", ") + ": see kubectl manul nodes."
	}
	_, err := fmt.Fprintln(w, outcome)
	return err
}

func endOf(e policing.End) string {
	switch {
	case e.Pod != "":
		return fmt.Sprintf("%s (%s, on %s)", e.Pod, e.Address, e.Node)
	case e.Node != "":
		return fmt.Sprintf("node %s (%s)", e.Node, e.Address)
	}
	return fmt.Sprintf("%s (outside the cluster)", e.Address)
}

func placeOf(s *policing.Step) string {
	if s.Endpoint != "" {
		return s.Endpoint
	}
	return "the node's, " + s.Point
}

func decided(allowed bool) string {
	if allowed {
		return "allowed"
	}
	return "denied"
}

// because says why in words.
func because(s *policing.Step) string {
	switch {
	case s.Policy != nil && s.Rule > 0:
		return fmt.Sprintf("%s rule %d of %s, tier %s: %s", s.Direction, s.Rule, policyName(*s.Policy), s.Tier, ruleText(s.Match))
	case s.Policy != nil:
		return policyName(*s.Policy) + " is " + s.Reason
	case s.Tier != "":
		names := make([]string, len(s.Passed))
		for i := range s.Passed {
			names[i] = policyName(s.Passed[i])
		}
		return fmt.Sprintf("end of tier %s, no %s rule matches of %s", s.Tier, s.Direction, strings.Join(names, ", "))
	}
	return s.Reason
}

func policyName(p v1alpha1.PolicyReference) string {
	if p.Namespace == "" {
		return p.Kind + " " + p.Name
	}
	return p.Kind + " " + p.Namespace + "/" + p.Name
}

// ruleText is what a rule says, but for the content of sets.
func ruleText(r *v1alpha1.Rule) string {
	words := []string{string(r.Action)}
	if r.Protocol != nil {
		words = append(words, protocolName(*r.Protocol))
	}
	for _, end := range []struct {
		word string
		m    *v1alpha1.EntityMatch
	}{{"from", &r.Source}, {"to", &r.Destination}} {
		var parts []string
		parts = append(parts, end.m.Nets...)
		if n := len(end.m.Sets); n > 0 {
			parts = append(parts, "those selected")
		}
		if ports := portsText(end.m); ports != "" {
			parts = append(parts, ports)
		}
		if len(parts) > 0 {
			words = append(words, end.word+" "+strings.Join(parts, " "))
		}
	}
	return strings.Join(words, " ")
}

func portsText(m *v1alpha1.EntityMatch) string {
	var parts []string
	for _, p := range m.Ports {
		if p.First == p.Last {
			parts = append(parts, fmt.Sprint(p.First))
			continue
		}
		parts = append(parts, fmt.Sprintf("%d-%d", p.First, p.Last))
	}
	parts = append(parts, m.NamedPorts...)
	if len(parts) == 0 {
		return ""
	}
	return "port " + strings.Join(parts, ",")
}

func protocolName(number int32) string {
	for name, n := range map[string]int32{"TCP": 6, "UDP": 17, "SCTP": 132, "ICMP": 1, "ICMPv6": 58} {
		if n == number {
			return name
		}
	}
	return fmt.Sprintf("protocol %d", number)
}
