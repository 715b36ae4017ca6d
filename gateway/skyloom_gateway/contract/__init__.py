"""What clients and server agree on: routes, bodies, answers, pushes and errors, as an AsyncAPI 3.0 document.

apps --routes--> Contract --document--> AsyncAPI --reading--> Contract
                     '--compare--> what breaks clients          (`skyloom schema --check`)
                     '--typescript, python--> typed clients
"""

from skyloom_gateway.contract.contract import Contract, ErrorCode, Operation
from skyloom_gateway.contract.document import document, document_bytes
from skyloom_gateway.contract.routes import contract_of

__all__ = ["Contract", "ErrorCode", "Operation", "contract_of", "document", "document_bytes"]
