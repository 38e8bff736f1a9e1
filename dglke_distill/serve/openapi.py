"""The questions of the page as OpenAPI, for programs that ask them."""

from __future__ import annotations

from typing import Any

from dglke_distill import __version__
from dglke_distill.serve.routes import PREFIX, ROUTES, Parameter

_MISTAKE = {
    "type": "object",
    "required": ["error", "field", "suggestions"],
    "properties": {
        "error": {"type": "string", "description": "one sentence"},
        "field": {"type": "string", "description": "the parameter at fault, or empty"},
        "suggestions": {"type": "array", "items": {"type": "string"}},
    },
}


def description() -> dict[str, Any]:
    """Return the description, OpenAPI 3.1."""
    paths = {
        f"{PREFIX}{name}": _path(
            name,
            route.about,
            [_parameter(key, parameter) for key, parameter in route.parameters.items()],
            route.result,
        )
        for name, route in ROUTES.items()
    }
    text = {"type": "string"}
    paths["/health"] = _path(
        "health", "Whether the server answers.", [], {"status": text, "version": text}
    )
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "dglke-distill serve",
            "version": __version__,
            "summary": "Questions to knowledge-graph embeddings. GET and HEAD only; no password.",
        },
        "paths": paths,
        "components": {"schemas": {"Mistake": _MISTAKE}},
    }


def _path(
    name: str, about: str, parameters: list[dict[str, Any]], result: dict[str, dict[str, Any]]
) -> dict[str, Any]:
    schema = {"type": "object", "required": list(result), "properties": result}
    mistake = {"schema": {"$ref": "#/components/schemas/Mistake"}}
    return {
        "get": {
            "operationId": name,
            "summary": about,
            "parameters": parameters,
            "responses": {
                "200": {
                    "description": "the answer",
                    "content": {"application/json": {"schema": schema}},
                },
                "default": {
                    "description": "a mistake in the request, or of the server",
                    "content": {"application/json": mistake},
                },
            },
        }
    }


def _parameter(name: str, parameter: Parameter) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "string"}
    if parameter.most:
        schema = {
            "type": "integer",
            "minimum": 1,
            "maximum": parameter.most,
            "default": parameter.default,
        }
    elif parameter.choices:
        schema |= {"enum": list(parameter.choices), "default": parameter.choices[0]}
    return {
        "name": name,
        "in": "query",
        "required": parameter.required,
        "description": parameter.about,
        "schema": schema,
    }
