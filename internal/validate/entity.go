package validate

import (
	"unicode/utf8"

	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/validation/field"

	v3 "github.com/manul-net/manul/api/v3"
)

// maxName is the greatest length of the name of an API object.
const maxName = 253

func checkEntity(path *field.Path, e *v3.EntityRule, protocol int32) field.ErrorList {
	errs := checkNets(path.Child("nets"), e.Nets, false)
	errs = append(errs, checkNets(path.Child("notNets"), e.NotNets, true)...)
	errs = append(errs, checkSelector(path.Child("selector"), e.Selector, false)...)
	errs = append(errs, checkSelector(path.Child("notSelector"), e.NotSelector, false)...)
	errs = append(errs, checkSelector(path.Child("namespaceSelector"), e.NamespaceSelector, true)...)
	errs = append(errs, checkPorts(path.Child("ports"), e.Ports, protocol)...)
	errs = append(errs, checkPorts(path.Child("notPorts"), e.NotPorts, protocol)...)
	if e.ServiceAccounts != nil {
		path := path.Child("serviceAccounts")
		errs = append(errs, checkOnce(path.Child("names"), e.ServiceAccounts.Names)...)
		errs = append(errs, checkSelector(path.Child("selector"), e.ServiceAccounts.Selector, false)...)
		for i, name := range e.ServiceAccounts.Names {
			if name == "" {
				errs = append(errs, field.Required(path.Child("names").Index(i), "write the name of a service account"))
			}
		}
	}
	return errs
}

func checkNets(path *field.Path, nets []string, negated bool) field.ErrorList {
	if len(nets) > MaxNets {
		return field.ErrorList{field.TooMany(path, len(nets), MaxNets)}
	}
	errs := checkOnce(path, nets)
	for i, text := range nets {
		net, err := ParseNet(text)
		switch {
		case err != nil:
			errs = append(errs, field.Invalid(path.Index(i), text, err.Error()))
		case negated && net.Bits() == 0:
			errs = append(errs, field.Invalid(path.Index(i), text, "this excludes every address, so that the rule never matches: leave it out"))
		}
	}
	return errs
}

// checkOnce: the lists that are sets have each entry once.
func checkOnce[T ~string](path *field.Path, entries []T) field.ErrorList {
	var errs field.ErrorList
	seen := make(map[T]bool, len(entries))
	for i, entry := range entries {
		if seen[entry] {
			errs = append(errs, field.Duplicate(path.Index(i), entry))
		}
		seen[entry] = true
	}
	return errs
}

// checkLength bounds a text, in characters.
func checkLength(path *field.Path, text string, most int) field.ErrorList {
	if utf8.RuneCountInString(text) > most {
		return field.ErrorList{field.TooLong(path, text, most)}
	}
	return nil
}

func checkPorts(path *field.Path, ports []intstr.IntOrString, protocol int32) field.ErrorList {
	if len(ports) == 0 {
		return nil
	}
	if len(ports) > MaxPorts {
		return field.ErrorList{field.TooMany(path, len(ports), MaxPorts)}
	}
	var errs field.ErrorList
	if !HasPorts(protocol) {
		errs = append(errs, field.Forbidden(path, "ports need protocol TCP, UDP or SCTP in the same rule"))
	}
	for i := range ports {
		if _, err := ParsePort(ports[i]); err != nil {
			errs = append(errs, field.Invalid(path.Index(i), ports[i].String(), err.Error()))
		}
	}
	return errs
}

// checkServices: the endpoints of a service can be only the far end of a rule, and they bring their own ports.
func checkServices(path *field.Path, e *v3.EntityRule, in ruleContext, farEnd bool) field.ErrorList {
	s := e.Services
	if s == nil {
		return nil
	}
	var errs field.ErrorList
	services := path.Child("services")
	if !farEnd {
		errs = append(errs, field.Forbidden(services, "services may stand only in the source of ingress rules and the destination of egress rules"))
	}
	if s.Name == "" {
		errs = append(errs, field.Required(services.Child("name"), "write the name of a service"))
	}
	errs = append(errs, checkLength(services.Child("name"), s.Name, maxName)...)
	errs = append(errs, checkLength(services.Child("namespace"), s.Namespace, maxName)...)
	if s.Namespace == "" && !in.namespaced {
		errs = append(errs, field.Required(services.Child("namespace"), "a global policy has no namespace of its own: give the service's"))
	}
	if e.Selector != "" || e.NotSelector != "" || e.NamespaceSelector != "" || e.ServiceAccounts != nil || len(e.Nets)+len(e.NotNets) > 0 {
		errs = append(errs, field.Forbidden(services, "services exclude selectors, nets and serviceAccounts: use rules of their own for these"))
	}
	if !in.ingress && len(e.Ports)+len(e.NotPorts) > 0 {
		errs = append(errs, field.Forbidden(path.Child("ports"), "the service says which ports match: leave ports and notPorts out"))
	}
	return errs
}
