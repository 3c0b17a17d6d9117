/** What the numbers of a model's predictions are, as `/predict/model/info` and `/console/model` tell. @module */

const MEANINGS = { score: 'score', probability: 'probability', probabilities: 'probability', raw_score: 'raw score' };

/**
 * The number of one output.
 * @param {any} value A number, or a list of one for each output.
 * @param {number} output
 * @returns {any}
 */
export function ofOutput(value, output) {
  return Array.isArray(value) ? value[Math.min(output, value.length - 1)] : value;
}

/**
 * Names of the outputs: the classes of a multiclass model, or numbers.
 * @param {any} model
 * @returns {string[]}
 */
export function outputNames(model) {
  if (model.labels && model.output === 'probabilities') return model.labels.map(String);
  return Array.from({ length: model.facts.outputs }, (_, place) => String(place));
}

/**
 * Names of the classes, as the probabilities of an answer have them.
 * @param {any} model
 * @returns {string[]}
 */
export function classNames(model) {
  return (model.labels ?? outputNames(model)).map(String);
}

/**
 * What a prediction is; nothing for a value in the unit of the target.
 * @param {any} model
 * @returns {string}
 */
export function meaning(model) {
  return MEANINGS[model.output] ?? '';
}

/**
 * The class that a raw score is the score of; nothing where none is known.
 * @param {any} model
 * @param {number} output
 * @returns {string}
 */
export function scoredClass(model, output) {
  if (model.output === 'probabilities') return classNames(model)[output] ?? String(output);
  return model.output === 'probability' && model.labels?.length === 2 ? String(model.labels[1]) : '';
}

/**
 * The probability of each class, as far as an answer has them.
 * @param {any} model
 * @param {any} answer
 * @returns {number[] | null}
 */
export function probabilitiesOf(model, answer) {
  if (answer.probabilities) return answer.probabilities;
  if (model.output === 'probability' && model.labels) return [1 - answer.prediction, answer.prediction];
  return model.output === 'probabilities' ? answer.prediction : null;
}

/**
 * Place of the greatest number, the first of several.
 * @param {number[]} values
 */
export function greatest(values) {
  return values.indexOf(Math.max(...values));
}
