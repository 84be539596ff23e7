package validate

import (
	"fmt"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation/field"

	v3 "github.com/manul-net/manul/api/v3"
)

// ruleContext is where a rule stands.
type ruleContext struct {
	// ingress: among the ingress rules.
	ingress bool
	// namespaced: in a policy that has a namespace.
	namespaced bool
}

func checkRules(path *field.Path, rules []v3.Rule, in ruleContext) field.ErrorList {
	if len(rules) > MaxRules {
		return field.ErrorList{field.TooMany(path, len(rules), MaxRules)}
	}
	var errs field.ErrorList
	for i := range rules {
		errs = append(errs, checkRule(path.Index(i), &rules[i], in)...)
	}
	return errs
}

func checkRule(path *field.Path, r *v3.Rule, in ruleContext) field.ErrorList {
	errs := checkAction(path.Child("action"), r.Action)
	if r.IPVersion != nil && *r.IPVersion != 4 && *r.IPVersion != 6 {
		errs = append(errs, field.NotSupported(path.Child("ipVersion"), *r.IPVersion, []string{"4", "6"}))
	}
	protocol, protocolErrs := checkProtocols(path, r)
	errs = append(errs, protocolErrs...)
	errs = append(errs, checkICMP(path.Child("icmp"), r.ICMP, protocol)...)
	errs = append(errs, checkICMP(path.Child("notICMP"), r.NotICMP, protocol)...)
	errs = append(errs, checkEntity(path.Child("source"), &r.Source, protocol)...)
	errs = append(errs, checkEntity(path.Child("destination"), &r.Destination, protocol)...)
	errs = append(errs, checkFamilies(path, r)...)
	errs = append(errs, checkServices(path.Child("source"), &r.Source, in, in.ingress)...)
	errs = append(errs, checkServices(path.Child("destination"), &r.Destination, in, !in.ingress)...)
	return append(errs, checkHTTP(path, r, protocol, in)...)
}

func checkAction(path *field.Path, action v3.Action) field.ErrorList {
	all := []v3.Action{v3.Allow, v3.Deny, v3.Log, v3.Pass}
	if slices.Contains(all, action) {
		return nil
	}
	for _, a := range all {
		if strings.EqualFold(string(action), string(a)) {
			return field.ErrorList{field.Invalid(path, action, fmt.Sprintf("write %s", a))}
		}
	}
	if action == "" {
		return field.ErrorList{field.Required(path, "write Allow, Deny, Log or Pass")}
	}
	return field.ErrorList{field.NotSupported(path, action, all)}
}

// checkProtocols returns the number of the rule's protocol, 0 if it has none.
func checkProtocols(path *field.Path, r *v3.Rule) (int32, field.ErrorList) {
	var errs field.ErrorList
	var protocol int32
	if r.Protocol != nil {
		var err error
		if protocol, err = ParseProtocol(*r.Protocol); err != nil {
			errs = append(errs, field.Invalid(path.Child("protocol"), r.Protocol.String(), err.Error()))
		}
	}
	if r.NotProtocol != nil {
		if _, err := ParseProtocol(*r.NotProtocol); err != nil {
			errs = append(errs, field.Invalid(path.Child("notProtocol"), r.NotProtocol.String(), err.Error()))
		}
	}
	if r.IPVersion != nil {
		if protocol == ProtocolICMP && *r.IPVersion == 6 {
			errs = append(errs, field.Invalid(path.Child("protocol"), r.Protocol.String(), "ICMP belongs to ipVersion 4: write ICMPv6"))
		}
		if protocol == ProtocolICMPv6 && *r.IPVersion == 4 {
			errs = append(errs, field.Invalid(path.Child("protocol"), r.Protocol.String(), "ICMPv6 belongs to ipVersion 6: write ICMP"))
		}
	}
	return protocol, errs
}

func checkICMP(path *field.Path, match *v3.ICMPFields, protocol int32) field.ErrorList {
	if match == nil {
		return nil
	}
	var errs field.ErrorList
	if protocol != ProtocolICMP && protocol != ProtocolICMPv6 {
		errs = append(errs, field.Forbidden(path, "a match on ICMP needs protocol ICMP or ICMPv6 in the same rule"))
	}
	if match.Code != nil && match.Type == nil {
		errs = append(errs, field.Required(path.Child("type"), "a code needs a type"))
	}
	if match.Type != nil && (*match.Type < 0 || *match.Type > 254) {
		errs = append(errs, field.Invalid(path.Child("type"), *match.Type, "a type is from 0 to 254"))
	}
	if match.Code != nil && (*match.Code < 0 || *match.Code > 255) {
		errs = append(errs, field.Invalid(path.Child("code"), *match.Code, "a code is from 0 to 255"))
	}
	return errs
}

// checkFamilies: a rule that names addresses of both families would match no packet.
func checkFamilies(path *field.Path, r *v3.Rule) field.ErrorList {
	var errs field.ErrorList
	version := 0
	if r.IPVersion != nil {
		version = *r.IPVersion
	}
	check := func(path *field.Path, nets []string) {
		for i, text := range nets {
			net, err := ParseNet(text)
			if err != nil && !net.IsValid() {
				continue
			}
			family := 6
			if net.Addr().Is4() {
				family = 4
			}
			if version == 0 {
				version = family
			}
			if family != version {
				errs = append(errs, field.Invalid(path.Index(i), text, fmt.Sprintf("the rule is about IPv%d: put IPv%d into a rule of its own", version, family)))
			}
		}
	}
	check(path.Child("source", "nets"), r.Source.Nets)
	check(path.Child("source", "notNets"), r.Source.NotNets)
	check(path.Child("destination", "nets"), r.Destination.Nets)
	check(path.Child("destination", "notNets"), r.Destination.NotNets)
	return errs
}

// Bounds of a match on HTTP: entries in a list, characters of a path.
const maxHTTP, maxPath = 20, 1024

func checkHTTP(path *field.Path, r *v3.Rule, protocol int32, in ruleContext) field.ErrorList {
	if r.HTTP == nil {
		return nil
	}
	path = path.Child("http")
	var errs field.ErrorList
	if !in.ingress {
		errs = append(errs, field.Forbidden(path, "http may stand only in ingress rules"))
	}
	if r.Action != v3.Allow {
		errs = append(errs, field.Forbidden(path, "http may stand only in rules with action Allow"))
	}
	if protocol != 0 && protocol != ProtocolTCP {
		errs = append(errs, field.Forbidden(path, "http needs protocol TCP"))
	}
	if len(r.HTTP.Methods) > maxHTTP {
		errs = append(errs, field.TooMany(path.Child("methods"), len(r.HTTP.Methods), maxHTTP))
	}
	if len(r.HTTP.Paths) > maxHTTP {
		return append(errs, field.TooMany(path.Child("paths"), len(r.HTTP.Paths), maxHTTP))
	}
	for i, p := range r.HTTP.Paths {
		errs = append(errs, checkLength(path.Child("paths").Index(i).Child("exact"), p.Exact, maxPath)...)
		errs = append(errs, checkLength(path.Child("paths").Index(i).Child("prefix"), p.Prefix, maxPath)...)
		if (p.Exact == "") == (p.Prefix == "") {
			errs = append(errs, field.Invalid(path.Child("paths").Index(i), p, "give exactly one of exact and prefix"))
		}
	}
	return errs
}
